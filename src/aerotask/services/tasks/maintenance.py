"""Periodic maintenance jobs; each is idempotent, and most run in one worker at a time.

A job works in batches, one transaction each, so a crash loses no finished batch. Rows are removed before
files: a crash in between leaves files that no row references, which the job for orphans removes.
"""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum
from functools import partial
from typing import Protocol

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.blobs.blob_store import BlobStore
from aerotask.blobs.partial_files import PartialFiles
from aerotask.db import locks
from aerotask.db.engine import Database
from aerotask.db.locks import LockSpace
from aerotask.dispatch.dispatcher import Dispatcher, Wakeup
from aerotask.domain.errors import Conflict
from aerotask.domain.settings import QueueSettings, Retention
from aerotask.domain.states import TaskState
from aerotask.failpoints import failpoint
from aerotask.services.datasets import deletion
from aerotask.services.storage.orphans import OrphanSweep, SweptOrphans
from aerotask.services.tasks.webhooks import enqueue_webhooks
from aerotask.services.tasks.work_dirs import attempt_of, work_folder
from aerotask.store.accounts import audit, login_attempts
from aerotask.store.datasets import derivatives, links
from aerotask.store.queue import concurrency, dispatch, recovery, retention
from aerotask.store.queue.clear import TASKS_PER_TRANSACTION

BATCH = 500
# A worker without its session lock is lost after this many missed heartbeats.
QUIET_HEARTBEATS = 1.5
# Time after a start of Postgres in which missing session locks prove nothing: workers are still reconnecting.
SETTLE_S = 5.0
AT_ONCE = timedelta(0)
# A wakeup is sent within milliseconds of the commit; after this time its sender must have died.
WAKEUP_OVERDUE_S = 5.0

_log = structlog.get_logger(__name__)


class MaintenanceJob(IntEnum):
    """Jobs that run in one worker at a time; the value is the second half of their lock's key."""

    ARTIFACTS = 1
    OLD_TASKS = 2
    ORPHANS = 3
    UNSENT_HINTS = 4
    IDEMPOTENCY_KEYS = 5
    AUDIT_EVENTS = 6
    SIGN_IN_ATTEMPTS = 7
    UNUSED_DERIVATIVES = 8
    UPLOADS = 9
    DELETED = 10
    SPACE = 11
    LINKS = 12


class RemoveRows(Protocol):
    """Statement that removes up to so many rows, and returns their number."""

    async def __call__(self, connection: AsyncConnection, /, *, max_count: int) -> int:
        """Remove the rows."""


@dataclass(frozen=True, slots=True)
class MaintenanceService:
    """The maintenance jobs; each logs and returns how much it did."""

    db: Database
    blobs: BlobStore
    dispatcher: Dispatcher
    files: PartialFiles
    queue: QueueSettings
    retention: Retention
    blob_grace: timedelta
    clock_offset_s: int

    async def recover_lost(self) -> int:
        """Release the tasks of lost workers; the number of those that can run again at once."""
        quiet_s = QUIET_HEARTBEATS * self.queue.heartbeat_s
        async with self.db.read() as connection:
            if not await recovery.any_lost(connection, quiet_s=quiet_s, settle_s=SETTLE_S):
                return 0
        async with self.db.begin_short() as connection:
            recovered = await recovery.recover_lost(
                connection, max_attempts=self.queue.max_attempts, quiet_s=quiet_s, settle_s=SETTLE_S
            )
            await enqueue_webhooks(connection, [task.task_id for task in recovered if task.state.terminal])
        for task in recovered:
            _log.warning("task.worker_lost", task_id=str(task.task_id), attempt=task.attempt, now=task.state)
            # The lost worker can't do it. If it was only paused, it loses its files together with its lease.
            folder = work_folder(self.blobs.work_root, task.task_id, task.attempt)
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        states = Counter(task.state for task in recovered)
        _log_counts(
            "lost_leases",
            again=states[TaskState.ENQUEUED],
            later=states[TaskState.SCHEDULED],
            failed=states[TaskState.FAILED],
        )
        return states[TaskState.ENQUEUED]

    async def mark_throttled(self) -> int:
        """Mark due tasks that wait for their user's concurrency limit; the number of newly marked ones."""
        async with self.db.read() as connection:
            if not await concurrency.any_throttled(
                connection, max_running_per_user=self.queue.running_per_user
            ):
                return 0
        async with self.db.begin_short() as connection:
            held = await concurrency.mark_throttled(
                connection, max_running_per_user=self.queue.running_per_user, max_count=BATCH
            )
        _log_counts("turns", held=held)
        return held

    async def send_missed_wakeups(self) -> int:
        """Send the wakeups of tasks whose sender has died; the number of them."""
        return await self._alone(MaintenanceJob.UNSENT_HINTS, self._send_missed_wakeups)

    async def remove_expired_artifacts(self) -> int:
        """Remove expired artifacts; the number of them."""
        return await self._alone(MaintenanceJob.ARTIFACTS, self._expired_artifacts)

    async def remove_old_tasks(self) -> int:
        """Remove tasks that ended before the retention time, with their logs; the number of them."""
        return await self._alone(MaintenanceJob.OLD_TASKS, self._old_tasks)

    async def remove_old_idempotency_keys(self) -> int:
        """Remove expired idempotency keys; the number of them."""
        return await self._alone(MaintenanceJob.IDEMPOTENCY_KEYS, self._old_idempotency_keys)

    async def remove_expired_uploads(self) -> int:
        """Remove expired uploads, and partial files without an upload; the number of them."""
        return await self._alone(MaintenanceJob.UPLOADS, self._expired_uploads)

    async def remove_deleted(self) -> int:
        """Remove the rows of deleted datasets and organizations; the number of these."""
        return await self._alone(MaintenanceJob.DELETED, lambda: deletion.remove_deleted(self.db, self.blobs))

    async def remove_old_audit_events(self) -> int:
        """Remove audit events older than their retention time; the number of them."""
        return await self._alone(MaintenanceJob.AUDIT_EVENTS, self._old_audit_events)

    async def remove_old_login_attempts(self) -> int:
        """Remove failed logins that no longer count; the number of accounts and addresses."""
        return await self._alone(MaintenanceJob.SIGN_IN_ATTEMPTS, self._old_sign_in_attempts)

    async def remove_expired_links(self) -> int:
        """Remove expired links; the number of them."""
        return await self._alone(MaintenanceJob.LINKS, self._expired_links)

    async def remove_unused_derivatives(self) -> int:
        """Remove derivatives whose content no entry has any more; the number of them."""
        return await self._alone(MaintenanceJob.UNUSED_DERIVATIVES, self._unused_derivatives)

    async def remove_orphans(self) -> int:
        """Remove blobs that no row references and abandoned work folders; the number of them."""
        return await self._alone(MaintenanceJob.ORPHANS, self._orphans)

    async def free_space(self) -> int:
        """Remove what deletions have left behind at once if the disk is short of space; the number of files."""
        if not (await asyncio.to_thread(self.blobs.space)).is_short:
            return 0
        await self.remove_deleted()
        return await self._alone(MaintenanceJob.SPACE, self._space)

    async def sweep_orphans(self, *, confirmed: bool) -> SweptOrphans:
        """Remove blobs that no row references; with `confirmed` however many they are.

        Raises:
            Conflict: a worker is doing it at this moment.
        """
        async with self.db.begin() as guard:
            if not await locks.try_take(guard, LockSpace.SWEEP, MaintenanceJob.ORPHANS):
                raise Conflict("A worker is removing orphans at this moment; try again in a minute.")
            return await locks.run_locked(guard, lambda: self._orphan_sweep.run(confirmed=confirmed))

    async def _alone(self, job: MaintenanceJob, run: Callable[[], Awaitable[Mapping[str, int]]]) -> int:
        async with self.db.begin() as guard:
            if not await locks.try_take(guard, LockSpace.SWEEP, job):
                return 0
            try:
                counts = await locks.run_locked(guard, run)
            except FileNotFoundError:
                # The whole storage may be away: an outage, of which the error on one of its files says nothing.
                await asyncio.to_thread(self.blobs.require)
                raise
        _log_counts(job.name.lower(), **counts)
        return sum(counts.values())

    async def _send_missed_wakeups(self) -> Mapping[str, int]:
        async with self.db.read() as connection:
            found = await dispatch.find_undispatched(
                connection, older_than_s=WAKEUP_OVERDUE_S, max_count=BATCH
            )
        if found:
            # A crash after this line sends them twice, which only wakes workers for nothing.
            await self.dispatcher.send([Wakeup(task.task_id, task.attempt) for task in found])
            async with self.db.begin() as connection:
                await dispatch.mark_enqueued(connection, [task.task_id for task in found])
        return {"sent": len(found)}

    async def _expired_artifacts(self) -> Mapping[str, int]:
        total = 0
        while True:
            async with self.db.begin() as connection:
                freed = await retention.remove_expired_artifacts(
                    connection, clock_offset_s=self.clock_offset_s, max_count=BATCH
                )
            await self._remove(freed)
            total += len(freed)
            if len(freed) < BATCH:
                return {"removed": total}

    async def _old_tasks(self) -> Mapping[str, int]:
        total = 0
        while True:
            async with self.db.begin() as connection:
                cleared = await retention.remove_old_tasks(
                    connection,
                    retention_days=self.retention.task_retention_days,
                    clock_offset_s=self.clock_offset_s,
                    max_count=TASKS_PER_TRANSACTION,
                )
            await self._remove(cleared.blob_keys)
            total += cleared.tasks
            if cleared.tasks < TASKS_PER_TRANSACTION:
                return {"removed": total}

    async def _old_idempotency_keys(self) -> Mapping[str, int]:
        offset_s = self.clock_offset_s
        return await self._in_batches(partial(retention.remove_old_idempotency_keys, clock_offset_s=offset_s))

    async def _old_audit_events(self) -> Mapping[str, int]:
        days, offset_s = self.retention.audit_retention_days, self.clock_offset_s
        return await self._in_batches(partial(audit.remove_old, retention_days=days, clock_offset_s=offset_s))

    async def _old_sign_in_attempts(self) -> Mapping[str, int]:
        return await self._in_batches(login_attempts.remove_expired)

    async def _expired_links(self) -> Mapping[str, int]:
        return await self._in_batches(links.remove_expired)

    async def _in_batches(self, remove: RemoveRows) -> Mapping[str, int]:
        """Remove rows to which no files belong, a batch per transaction."""
        total = 0
        while True:
            async with self.db.begin() as connection:
                removed = await remove(connection, max_count=BATCH)
            total += removed
            if removed < BATCH:
                return {"removed": total}

    async def _unused_derivatives(self, grace: timedelta | None = None) -> Mapping[str, int]:
        total = 0
        while True:
            async with self.db.begin() as connection:
                freed = await derivatives.remove_unused(
                    connection,
                    older_than=self.blob_grace if grace is None else grace,
                    clock_offset_s=self.clock_offset_s,
                    max_count=BATCH,
                )
            await self._remove(freed)
            total += len(freed)
            if len(freed) < BATCH:
                return {"removed": total}

    async def _expired_uploads(self) -> Mapping[str, int]:
        return await deletion.remove_expired_uploads(
            self.db, self.files, clock_offset_s=self.clock_offset_s, grace=self.blob_grace
        )

    async def _orphans(self) -> Mapping[str, int]:
        swept = await self._orphan_sweep.run()
        await asyncio.to_thread(self.blobs.remove_partial, self.blob_grace)
        return {"blobs": swept.removed, "folders": await self._abandoned_work()}

    async def _space(self) -> Mapping[str, int]:
        blobs = derivatives = 0
        while (released := await self._orphan_sweep.remove_released()).count:
            blobs += released.removed
            # Only after a removal of entries, since this reads the whole table.
            derivatives += (await self._unused_derivatives(AT_ONCE))["removed"]
        uploads = await deletion.remove_left_over(self.db, self.files, AT_ONCE)
        return {"blobs": blobs, "derivatives": derivatives, "uploads": uploads}

    @property
    def _orphan_sweep(self) -> OrphanSweep:
        return OrphanSweep(self.db, self.blobs, self.blob_grace, self.clock_offset_s)

    async def _remove(self, blob_keys: Iterable[str]) -> None:
        for key in blob_keys:
            failpoint("sweep-removing")
            await self.blobs.remove(key)

    async def _abandoned_work(self) -> int:
        """Remove work folders that were not touched for the grace time: their workers have died.

        The folder of an attempt that Postgres has as running stays in any case.
        """
        untouched = await asyncio.to_thread(self.blobs.work_older_than, self.blob_grace)
        attempts = {attempt: name for name in untouched if (attempt := attempt_of(name)) is not None}
        async with self.db.read() as connection:
            running = await recovery.running_among(connection, attempts)
        abandoned = set(untouched) - {attempts[attempt] for attempt in running}
        for name in abandoned:
            await asyncio.to_thread(shutil.rmtree, self.blobs.work_root / name, ignore_errors=True)
        return len(abandoned)


def _log_counts(job: str, **counts: int) -> None:
    if any(counts.values()):
        _log.info("sweep.done", sweep=job, **counts)
