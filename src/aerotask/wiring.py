"""Composition root: builds the services from the settings, for API, workers, command line and tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path

import httpx
import structlog

from aerotask.blobs.blob_store import BlobStore
from aerotask.blobs.local import LocalBlobs
from aerotask.blobs.partial_files import PartialFiles
from aerotask.blobs.storage_root import StorageRoot
from aerotask.config import Settings
from aerotask.db.engine import Database, open_database
from aerotask.dispatch.arq import ArqDispatcher
from aerotask.dispatch.dispatcher import Dispatcher
from aerotask.domain.settings import OidcSettings
from aerotask.net.guarded_http import GuardedClient, Resolver
from aerotask.registry import Registry, load_registry
from aerotask.sdk import Limits
from aerotask.services.accounts.api_keys import ApiKeyService
from aerotask.services.accounts.audit import AuditService
from aerotask.services.accounts.authentication import AuthenticationService
from aerotask.services.accounts.jwks import TIMEOUT_S as JWKS_TIMEOUT_S
from aerotask.services.accounts.jwks import JwksCache
from aerotask.services.accounts.login import LoginService
from aerotask.services.accounts.login_throttle import LoginThrottle
from aerotask.services.accounts.oidc import OidcService
from aerotask.services.accounts.passwords import Passwords, open_passwords
from aerotask.services.accounts.permissions import PermissionService
from aerotask.services.accounts.tokens import Tokens
from aerotask.services.accounts.user_lookup import UserLookup
from aerotask.services.accounts.users import UserService
from aerotask.services.accounts.view_tokens import ViewTokens, ViewTokenService
from aerotask.services.datasets.datasets import DatasetService
from aerotask.services.datasets.derivatives import DerivativeService
from aerotask.services.datasets.downloads import DownloadService
from aerotask.services.datasets.entries import EntryService
from aerotask.services.datasets.links import LinkService
from aerotask.services.datasets.orgs import OrgService
from aerotask.services.datasets.tree import TreeService
from aerotask.services.datasets.uploads import UploadService
from aerotask.services.storage.backup import BackupService
from aerotask.services.storage.damage import DamageService
from aerotask.services.storage.disk_check import DiskCheck
from aerotask.services.storage.installation import InstallationService
from aerotask.services.storage.restore import RestoreService
from aerotask.services.tasks.admission import AdmissionService
from aerotask.services.tasks.dry_run import DryRunService
from aerotask.services.tasks.maintenance import MaintenanceService
from aerotask.services.tasks.notifications import TaskNotifications
from aerotask.services.tasks.retry import RetryService
from aerotask.services.tasks.submit import SubmitService
from aerotask.services.tasks.tasks import TaskService
from aerotask.services.tasks.usage import UsageService
from aerotask.services.tasks.wakeups import WakeupSender
from aerotask.services.tasks.watch import WatchService
from aerotask.services.tasks.webhooks import WebhookService
from aerotask.services.tiles.tiles import TileService
from aerotask.tiles.renderer import open_renderer
from aerotask.tools import DOWNLOAD_TOOL

JWKS_THREADS = 2
"""DNS threads for the provider's name: one more than concurrent fetches, as a lookup can't be cancelled."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Platform:
    """Services of one process, with the resources that they share."""

    settings: Settings
    db: Database
    blobs: BlobStore
    installation: InstallationService
    dispatcher: Dispatcher
    registry: Registry
    access: PermissionService
    users: UserService
    authentication: AuthenticationService
    login: LoginService
    api_keys: ApiKeyService
    view_tokens: ViewTokenService
    links: LinkService
    audit: AuditService
    orgs: OrgService
    datasets: DatasetService
    entries: EntryService
    tree: TreeService
    uploads: UploadService
    usage: UsageService
    downloads: DownloadService
    derivatives: DerivativeService
    submit: SubmitService
    dry_run: DryRunService
    tasks: TaskService
    retries: RetryService
    webhooks: WebhookService
    watch: WatchService
    wakeups: WakeupSender
    maintenance: MaintenanceService
    admission: AdmissionService
    tiles: TileService
    damage: DamageService


@asynccontextmanager
async def open_platform(
    settings: Settings, *, application: str, connections: int = 10, registry: Registry | None = None
) -> AsyncIterator[Platform]:
    """Opens the platform for these settings; connections are opened on first use and closed with the block.

    `connections` is the maximum number of connections for writing.
    """
    db = open_database(
        settings.database_url.get_secret_value(), application=application, pool_size=connections
    )
    dispatcher = ArqDispatcher(settings.redis_url.get_secret_value())
    passwords = open_passwords()
    registry = registry or load_registry()
    for broken in registry.broken:
        _log.error("tool.broken", name=broken.name, reason=broken.reason)
    resolver = Resolver(threads=JWKS_THREADS)
    platform = _assemble(settings, db, dispatcher, registry, passwords=passwords, resolver=resolver)
    try:
        yield platform
    finally:
        await platform.tiles.renderer.close()
        resolver.close()
        passwords.close()
        await dispatcher.close()
        await db.close()


@asynccontextmanager
async def open_user_service(database_url: str) -> AsyncIterator[UserService]:
    """Opens the management of users alone, which needs nothing but the database."""
    db = open_database(database_url, application="aerotask user", pool_size=1)
    passwords = open_passwords()
    try:
        yield UserService(db, passwords, issuer=None)
    finally:
        passwords.close()
        await db.close()


@asynccontextmanager
async def open_installation(settings: Settings, *, application: str) -> AsyncIterator[InstallationService]:
    """Opens only what checks that database and storage belong together."""
    db = open_database(settings.database_url.get_secret_value(), application=application)
    try:
        yield InstallationService(db, LocalBlobs(settings.storage_folder))
    finally:
        await db.close()


@asynccontextmanager
async def open_backup_service(settings: Settings, programs: Path) -> AsyncIterator[BackupService]:
    """Opens backups of the installation; `programs` is the folder of `pg_dump`."""
    database_url = settings.database_url.get_secret_value()
    db = open_database(database_url, application="aerotask backup", pool_size=1)
    try:
        blobs = LocalBlobs(settings.storage_folder)
        yield BackupService(db, blobs, database_url, settings.secret_key.get_secret_value(), programs)
    finally:
        await db.close()


@asynccontextmanager
async def open_restore_service(
    database_url: str, storage: Path, programs: Path
) -> AsyncIterator[RestoreService]:
    """Opens restorations into this database and storage, which must be empty."""
    db = open_database(database_url, application="aerotask restore", pool_size=1)
    try:
        yield RestoreService(db, LocalBlobs(storage), database_url, programs)
    finally:
        await db.close()


def _assemble(  # noqa: PLR0913  resources that are closed with the platform
    settings: Settings,
    db: Database,
    dispatcher: Dispatcher,
    registry: Registry,
    *,
    passwords: Passwords,
    resolver: Resolver,
) -> Platform:
    blobs = LocalBlobs(settings.storage_folder, min_free_bytes=settings.min_free_bytes)
    partial_files = PartialFiles(StorageRoot(settings.storage_folder, settings.min_free_bytes))
    access = PermissionService(db)
    wakeups = WakeupSender(db, dispatcher)
    webhooks = WebhookService(settings.secret_key, settings.webhooks)
    tasks = TaskService(db, blobs, access)
    submit = _submit(
        settings, db, access, registry, wakeups=wakeups, webhooks=webhooks, disk=DiskCheck(blobs)
    )
    view_tokens = ViewTokenService(
        db, access, ViewTokens(settings.secret_key, ttl=timedelta(seconds=settings.tokens.view_token_ttl_s))
    )
    tokens = Tokens(settings.secret_key.get_secret_value(), settings.tokens)
    api_keys = ApiKeyService(db)
    entries = EntryService(db, blobs, access, settings.uploads.max_object_bytes, settings.storage)
    return Platform(
        settings=settings,
        db=db,
        blobs=blobs,
        installation=InstallationService(db, blobs),
        dispatcher=dispatcher,
        registry=registry,
        access=access,
        users=UserService(db, passwords, settings.oidc.issuer),
        authentication=AuthenticationService(db, tokens, api_keys, _oidc(settings.oidc, db, resolver)),
        login=LoginService(db, tokens, passwords, LoginThrottle(db, settings.login)),
        api_keys=api_keys,
        view_tokens=view_tokens,
        links=LinkService(db, access),
        audit=AuditService(db),
        orgs=OrgService(db, access, UserLookup(db), settings.storage, settings.max_orgs_per_user),
        datasets=DatasetService(db, access),
        entries=entries,
        tree=TreeService(db, access, settings.storage),
        uploads=UploadService(
            db, partial_files, blobs, access, entries, settings.uploads, settings.clock_offset_s
        ),
        usage=UsageService(db, access, settings.storage, settings.quotas),
        downloads=DownloadService(
            db, blobs, access, settings.bulk_download_async_threshold_bytes, DOWNLOAD_TOOL
        ),
        derivatives=DerivativeService(db, blobs, access),
        submit=submit,
        dry_run=DryRunService(db, access, submit),
        tasks=tasks,
        retries=RetryService(db, tasks, submit, wakeups, settings.quotas),
        webhooks=webhooks,
        watch=WatchService(
            tasks,
            TaskNotifications(settings.database_url.get_secret_value()),
            settings.http.events_keepalive_s,
        ),
        wakeups=wakeups,
        maintenance=_maintenance(settings, db, blobs, dispatcher, partial_files),
        admission=AdmissionService(db, settings.quotas, registry),
        tiles=_tiles(settings, db, access, view_tokens, tasks=tasks, submit=submit, blobs=blobs),
        damage=DamageService(db),
    )


def _submit(  # noqa: PLR0913  the services that a submit uses
    settings: Settings,
    db: Database,
    access: PermissionService,
    registry: Registry,
    *,
    wakeups: WakeupSender,
    webhooks: WebhookService,
    disk: DiskCheck,
) -> SubmitService:
    return SubmitService(
        db=db,
        access=access,
        registry=registry,
        wakeups=wakeups,
        quotas=settings.quotas,
        dedup_lookback=timedelta(hours=settings.retention.dedup_lookback_hours),
        webhooks=webhooks,
        limits=Limits(**asdict(settings.archives)),
        disk=disk,
    )


def _maintenance(
    settings: Settings, db: Database, blobs: BlobStore, dispatcher: Dispatcher, partial_files: PartialFiles
) -> MaintenanceService:
    return MaintenanceService(
        db=db,
        blobs=blobs,
        dispatcher=dispatcher,
        files=partial_files,
        queue=settings.queue,
        retention=settings.retention,
        blob_grace=timedelta(seconds=settings.blob_grace_s),
        clock_offset_s=settings.clock_offset_s,
    )


def _tiles(  # noqa: PLR0913  the services that drawing uses
    settings: Settings,
    db: Database,
    access: PermissionService,
    view_tokens: ViewTokenService,
    *,
    tasks: TaskService,
    submit: SubmitService,
    blobs: LocalBlobs,
) -> TileService:
    return TileService(
        db=db,
        access=access,
        tasks=tasks,
        registry=submit.registry,
        limits=submit.limits,
        renderer=open_renderer(settings.render, blobs),
        tokens=view_tokens,
    )


def _oidc(settings: OidcSettings, db: Database, resolver: Resolver) -> OidcService | None:
    if settings.issuer is None:
        return None
    client = GuardedClient(
        timeout_s=JWKS_TIMEOUT_S,
        allow_private=settings.allow_private,
        tls=httpx.create_ssl_context(trust_env=False),
        resolve=resolver,
    )
    return OidcService(db, settings, settings.issuer, JwksCache(settings.issuer, client.get_json))
