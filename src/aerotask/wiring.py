"""The one place where the parts of the platform are put together; api, worker, cli and tests share it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import httpx
import structlog

from aerotask.blobs.blob_store import BlobStore
from aerotask.blobs.local import LocalBlobs
from aerotask.blobs.partial_files import PartialFiles
from aerotask.config import Settings
from aerotask.db.engine import Database, open_database
from aerotask.dispatch.arq import ArqDispatcher
from aerotask.dispatch.dispatcher import Dispatcher
from aerotask.net.guarded_http import GuardedClient, Resolver
from aerotask.registry import Registry, load_registry
from aerotask.sandbox.pool import Pool, PoolLimits
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
from aerotask.services.accounts.users import UserService
from aerotask.services.datasets.datasets import DatasetService
from aerotask.services.datasets.derivatives import DerivativeService
from aerotask.services.datasets.downloads import DownloadService
from aerotask.services.datasets.entries import EntryService
from aerotask.services.datasets.orgs import OrgService
from aerotask.services.datasets.storage_quota import StorageQuota
from aerotask.services.datasets.tree import TreeService
from aerotask.services.datasets.uploads import UploadLimits, UploadService
from aerotask.services.tasks.dry_run import DryRunService
from aerotask.services.tasks.maintenance import MaintenanceLimits, MaintenanceService
from aerotask.services.tasks.notifications import TaskNotifications
from aerotask.services.tasks.quota import Quotas
from aerotask.services.tasks.retry import RetryService
from aerotask.services.tasks.submit import SubmitService
from aerotask.services.tasks.tasks import TaskService
from aerotask.services.tasks.usage import UsageService
from aerotask.services.tasks.wakeups import WakeupSender
from aerotask.services.tasks.watch import WatchService
from aerotask.services.tasks.webhooks import WebhookService
from aerotask.services.tiles.tile_tokens import TileTokens
from aerotask.services.tiles.tiles import TileService
from aerotask.tiles.image_cache import ImageCache
from aerotask.tiles.local_files import LocalFileCache
from aerotask.tiles.renderer import Renderer
from aerotask.tools import DOWNLOAD_TOOL

# A worker without its lock is dead after this many heartbeats of silence.
QUIET_HEARTBEATS = 1.5
SETTLE_S = 5.0
JWKS_THREADS = 2
"""Threads that resolve the provider's name: one more than fetches at a time, since a look-up can't be cancelled."""
DRAWING_PROGRAM = "aerotask.tiles.render_child"
# So many callers have to wait for pictures before one more is sent away.
CALLERS_AT_LEAST = 4

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Platform:
    """Everything behind the interfaces."""

    settings: Settings
    db: Database
    blobs: BlobStore
    dispatcher: Dispatcher
    registry: Registry
    access: PermissionService
    users: UserService
    authentication: AuthenticationService
    login: LoginService
    api_keys: ApiKeyService
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
    tiles: TileService


@asynccontextmanager
async def open_platform(
    settings: Settings, *, application: str, connections: int = 10, registry: Registry | None = None
) -> AsyncIterator[Platform]:
    """The platform of these settings; connections are made on first use and closed with the block.

    As many as `connections` can write at once.
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


def _assemble(  # noqa: PLR0913  what is opened and closed with the platform
    settings: Settings,
    db: Database,
    dispatcher: Dispatcher,
    registry: Registry,
    *,
    passwords: Passwords,
    resolver: Resolver,
) -> Platform:
    blobs = LocalBlobs(settings.storage_folder)
    access = PermissionService(db)
    wakeups = WakeupSender(db, dispatcher)
    webhooks = WebhookService(settings.secret_key, allow_private=settings.callback_allow_private)
    tasks = TaskService(db, blobs, access)
    submit = SubmitService(
        db=db,
        access=access,
        registry=registry,
        hints=wakeups,
        quotas=_quotas(settings),
        dedup_lookback=timedelta(hours=settings.dedup_lookback_hours),
        callbacks=webhooks,
        limits=tool_limits(settings),
    )
    tokens = _tokens(settings)
    api_keys = ApiKeyService(db)
    storage = _storage_limits(settings)
    entries = EntryService(db, blobs, access, settings.max_object_bytes, storage)
    files = PartialFiles(settings.storage_folder / "uploads")
    notifications = TaskNotifications(settings.database_url.get_secret_value())
    return Platform(
        settings=settings,
        db=db,
        blobs=blobs,
        dispatcher=dispatcher,
        registry=registry,
        access=access,
        users=UserService(db, passwords, settings.oidc_issuer),
        authentication=AuthenticationService(db, tokens, api_keys, _issuer(settings, db, resolver)),
        login=LoginService(db, tokens, passwords, _sign_in_limits(settings, db)),
        api_keys=api_keys,
        audit=AuditService(db),
        orgs=OrgService(db, access, storage, settings.max_orgs_per_user),
        datasets=DatasetService(db, access),
        entries=entries,
        tree=TreeService(db, access, storage),
        uploads=UploadService(db, files, blobs, access, entries, _upload_limits(settings)),
        usage=UsageService(db, access, storage, submit.quotas),
        downloads=DownloadService(
            db, blobs, access, settings.bulk_download_async_threshold_bytes, DOWNLOAD_TOOL
        ),
        derivatives=DerivativeService(db, blobs, access),
        submit=submit,
        dry_run=DryRunService(db, access, submit),
        tasks=tasks,
        retries=RetryService(db, tasks, submit, wakeups, submit.quotas),
        webhooks=webhooks,
        watch=WatchService(tasks, notifications, settings.events_keepalive_s),
        wakeups=wakeups,
        maintenance=MaintenanceService(db, blobs, dispatcher, _sweep_limits(settings), files),
        tiles=TileService(
            db=db,
            access=access,
            tasks=tasks,
            registry=registry,
            limits=submit.limits,
            renderer=_renderer(settings, blobs),
            tokens=TileTokens(settings.secret_key, ttl=timedelta(seconds=settings.view_token_ttl_s)),
        ),
    )


def _storage_limits(settings: Settings) -> StorageQuota:
    return StorageQuota(settings.max_storage_bytes_per_org, settings.max_storage_bytes_per_user)


def _upload_limits(settings: Settings) -> UploadLimits:
    return UploadLimits(
        ttl_s=timedelta(hours=settings.upload_ttl_hours).total_seconds(),
        open_per_user=settings.max_open_uploads_per_user,
        clock_offset_s=settings.clock_offset_s,
    )


def _renderer(settings: Settings, blobs: BlobStore) -> Renderer:
    limits = PoolLimits(
        children=settings.render_processes,
        waiting=settings.render_queue,
        waiting_each=max(1, settings.render_queue // CALLERS_AT_LEAST),
        job_timeout_s=settings.render_timeout_s,
    )
    folder = settings.render_cache_folder or blobs.work_root.parent / "cache"
    cache = ImageCache(folder, limit_bytes=settings.render_cache_bytes)
    files = LocalFileCache(blobs)
    return Renderer(Pool(DRAWING_PROGRAM, limits, files.folder), files, cache)


def tool_limits(settings: Settings) -> Limits:
    """What the settings allow tools."""
    return Limits(
        archive_bytes=settings.archive_max_bytes,
        extracted_bytes=settings.archive_max_extracted_bytes,
        extracted_entries=settings.archive_max_entries,
        extraction_ratio=settings.archive_max_ratio,
        archive_depth=settings.archive_max_depth,
    )


def _quotas(settings: Settings) -> Quotas:
    return Quotas(
        output_bytes=settings.max_output_bytes,
        active=settings.max_active_tasks,
        active_per_org=settings.max_active_tasks_per_org,
        active_per_user=settings.max_active_tasks_per_user,
        active_anonymous=settings.max_active_tasks_anonymous,
        bulk_downloads_per_user=settings.max_active_bulk_downloads_per_user,
        artifact_bytes_per_org_day=settings.max_artifact_bytes_per_org_day,
    )


def _tokens(settings: Settings) -> Tokens:
    return Tokens(
        settings.secret_key.get_secret_value(),
        timedelta(seconds=settings.token_ttl_s),
        timedelta(seconds=settings.session_ttl_s),
    )


def _issuer(settings: Settings, db: Database, resolver: Resolver) -> OidcService | None:
    if settings.oidc_issuer is None:
        return None
    client = GuardedClient(
        timeout_s=JWKS_TIMEOUT_S,
        allow_private=settings.oidc_allow_private,
        tls=httpx.create_ssl_context(trust_env=False),
        resolve=resolver,
    )
    keys = JwksCache(settings.oidc_issuer, client.get_json)
    return OidcService(
        db, settings.oidc_issuer, settings.oidc_audience, keys, provision=settings.oidc_provision
    )


def _sign_in_limits(settings: Settings, db: Database) -> LoginThrottle:
    return LoginThrottle(
        db,
        per_account=settings.max_failed_sign_ins_per_account,
        per_address=settings.max_failed_sign_ins_per_address,
        window_s=settings.sign_in_window_s,
    )


def _sweep_limits(settings: Settings) -> MaintenanceLimits:
    return MaintenanceLimits(
        max_strikes=settings.max_attempts,
        running_per_user=settings.max_running_tasks_per_user,
        quiet_s=QUIET_HEARTBEATS * settings.heartbeat_s,
        settle_s=SETTLE_S,
        retention_days=settings.task_retention_days,
        audit_retention_days=settings.audit_retention_days,
        blob_grace=timedelta(seconds=settings.blob_grace_s),
        clock_offset_s=settings.clock_offset_s,
    )
