"""Maintenance schedule of a worker: several loops side by side, each running its jobs one after the other.

A running job holds two connections, and more would be missing for heartbeats. Jobs that may take long have
loops of their own, so that artifacts expire on time meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

import structlog

from aerotask.blobs.storage_root import StorageAway
from aerotask.db.outages import is_outage
from aerotask.dispatch.dispatcher import QueueAway
from aerotask.services.storage.installation import StorageMismatch
from aerotask.services.tasks.maintenance import MaintenanceService

Job: TypeAlias = Callable[[], Awaitable[int]]

LOOPS = 4
SPACE_CHECK_S = 2.0
CONNECTIONS = 2 * LOOPS
"""Connections that all loops may need at once."""

_log = structlog.get_logger(__name__)


def loops(maintenance: MaintenanceService, *, period_s: float, blob_grace_s: float) -> list[Awaitable[None]]:
    """The loops of all jobs, to be run side by side until cancelled."""
    quick = (
        maintenance.remove_expired_artifacts,
        maintenance.send_missed_wakeups,
        maintenance.remove_old_idempotency_keys,
        maintenance.remove_old_audit_events,
        maintenance.remove_old_login_attempts,
        maintenance.remove_expired_links,
        maintenance.remove_expired_uploads,
        maintenance.remove_unused_derivatives,
    )
    return [
        repeat(quick, period_s=period_s),
        repeat((maintenance.remove_old_tasks, maintenance.remove_deleted), period_s=period_s),
        repeat((maintenance.free_space,), period_s=min(period_s, SPACE_CHECK_S)),
        repeat((maintenance.remove_orphans,), period_s=max(period_s, blob_grace_s / 4)),
    ]


async def repeat(jobs: Sequence[Job], *, period_s: float) -> None:
    """Run the jobs one after the other, then pause, until cancelled; an error of one doesn't stop the others."""
    while True:
        for job in jobs:
            await _run_safely(job)
        await asyncio.sleep(period_s)


async def _run_safely(job: Job) -> None:
    try:
        await job()
    except Exception as error:  # noqa: BLE001  the error must not end the worker's tasks
        if isinstance(error, QueueAway | StorageAway | StorageMismatch) or is_outage(error):
            _log.warning("sweep.delayed", error=str(error))
        else:
            _log.error("sweep.failed", exc_info=error)
