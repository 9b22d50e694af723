"""The one place where the parts of the platform are put together; api, worker, cli and tests share it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import structlog

from aerotask.blobs.growing import GrowingFiles
from aerotask.blobs.local import LocalBlobs
from aerotask.blobs.port import BlobStore
from aerotask.config import Settings
from aerotask.dispatch.arq import ArqDispatcher
from aerotask.dispatch.port import Dispatcher
from aerotask.registry import Registry, load_registry
from aerotask.services.access import AccessService
from aerotask.services.accounts import AccountService, open_accounts
from aerotask.services.callbacks import CallbackService
from aerotask.services.changes import TaskChanges
from aerotask.services.entries import EntryService
from aerotask.services.following import FollowService
from aerotask.services.hints import HintSender
from aerotask.services.organizations import OrganizationService
from aerotask.services.quota import Quotas
from aerotask.services.rerun import RerunService
from aerotask.services.storage import StorageLimits
from aerotask.services.submit import SubmitService
from aerotask.services.sweep import SweepLimits, SweepService
from aerotask.services.tasks import TaskService
from aerotask.services.trees import TreeService
from aerotask.services.uploads import UploadLimits, UploadService
from aerotask.services.usage import UsageService
from aerotask.store.engine import Database, open_database

# A worker without its lock is dead after this many heartbeats of silence.
QUIET_HEARTBEATS = 1.5
SETTLE_S = 5.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Platform:
    """Everything behind the interfaces."""

    settings: Settings
    db: Database
    blobs: BlobStore
    dispatcher: Dispatcher
    registry: Registry
    access: AccessService
    accounts: AccountService
    organizations: OrganizationService
    entries: EntryService
    trees: TreeService
    uploads: UploadService
    usage: UsageService
    submits: SubmitService
    tasks: TaskService
    reruns: RerunService
    callbacks: CallbackService
    follow: FollowService
    hints: HintSender
    sweep: SweepService


@asynccontextmanager
async def open_platform(settings: Settings, *, application: str) -> AsyncIterator[Platform]:
    """The platform of these settings; connections are made on first use and closed with the block."""
    db = open_database(settings.database_url.get_secret_value(), application=application)
    dispatcher = ArqDispatcher(settings.redis_url.get_secret_value())
    registry = load_registry()
    for broken in registry.broken:
        _log.error("tool.broken", name=broken.name, reason=broken.reason)
    try:
        yield _assemble(settings, db, dispatcher, registry)
    finally:
        await dispatcher.close()
        await db.close()


def _assemble(settings: Settings, db: Database, dispatcher: Dispatcher, registry: Registry) -> Platform:
    blobs = LocalBlobs(settings.storage_folder)
    access = AccessService(db)
    hints = HintSender(db, dispatcher)
    callbacks = CallbackService(settings.secret_key, allow_private=settings.callback_allow_private)
    tasks = TaskService(db, blobs, access)
    submits = SubmitService(
        db=db,
        access=access,
        registry=registry,
        hints=hints,
        quotas=_quotas(settings),
        dedup_lookback=timedelta(hours=settings.dedup_lookback_hours),
        callbacks=callbacks,
    )
    storage = _storage_limits(settings)
    entries = EntryService(db, blobs, access, settings.max_object_bytes, storage)
    files = GrowingFiles(settings.storage_folder / "uploads")
    changes = TaskChanges(settings.database_url.get_secret_value())
    return Platform(
        settings=settings,
        db=db,
        blobs=blobs,
        dispatcher=dispatcher,
        registry=registry,
        access=access,
        accounts=open_accounts(
            db,
            secret=settings.secret_key.get_secret_value(),
            token_ttl=timedelta(seconds=settings.token_ttl_s),
        ),
        organizations=OrganizationService(db, access),
        entries=entries,
        trees=TreeService(db, access, storage),
        uploads=UploadService(db, files, blobs, access, entries, _upload_limits(settings)),
        usage=UsageService(db, access, storage, submits.quotas),
        submits=submits,
        tasks=tasks,
        reruns=RerunService(db, tasks, submits, hints, submits.quotas),
        callbacks=callbacks,
        follow=FollowService(tasks, changes, settings.events_keepalive_s),
        hints=hints,
        sweep=SweepService(db, blobs, dispatcher, _sweep_limits(settings), files),
    )


def _storage_limits(settings: Settings) -> StorageLimits:
    return StorageLimits(settings.max_storage_bytes_per_org, settings.max_storage_bytes_per_user)


def _upload_limits(settings: Settings) -> UploadLimits:
    return UploadLimits(
        ttl_s=timedelta(hours=settings.upload_ttl_hours).total_seconds(),
        open_per_user=settings.max_open_uploads_per_user,
        clock_offset_s=settings.clock_offset_s,
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


def _sweep_limits(settings: Settings) -> SweepLimits:
    return SweepLimits(
        max_strikes=settings.max_attempts,
        running_per_user=settings.max_running_tasks_per_user,
        quiet_s=QUIET_HEARTBEATS * settings.heartbeat_s,
        settle_s=SETTLE_S,
        retention_days=settings.task_retention_days,
        blob_grace=timedelta(seconds=settings.blob_grace_s),
        clock_offset_s=settings.clock_offset_s,
    )
