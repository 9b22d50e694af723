"""What has to be tidied up behind everybody: each sweep is idempotent, and one worker at a time runs it.

A sweep works in batches, each a transaction of its own, so a crash in its middle costs nothing that was
done. Rows go first and files after them: what a crash leaves in between are files that nothing names, which
the sweep of orphans finds.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum
from pathlib import Path

import structlog

from aerotask.blobs.blob_store import BlobStore
from aerotask.blobs.partial_files import PartialFiles
from aerotask.db import locks
from aerotask.db.engine import Database
from aerotask.db.locks import LockSpace
from aerotask.dispatch.dispatcher import Dispatcher, Wakeup
from aerotask.domain.settings import QueueSettings, Retention
from aerotask.domain.states import TaskState
from aerotask.failpoints import failpoint
from aerotask.services.datasets.deletion import remove_deleted, remove_expired_uploads
from aerotask.services.tasks.webhooks import owe
from aerotask.services.tasks.work_dirs import work_folder
from aerotask.store.accounts import audit, login_attempts
from aerotask.store.datasets import derivatives
from aerotask.store.queue import cancel, concurrency, recovery, retention, undispatched
from aerotask.store.queue.cancel import TASKS_AT_ONCE

BATCH = 500
# A worker without its lock is dead after this many heartbeats of silence.
QUIET_HEARTBEATS = 1.5
# For so long after a start of Postgres a missing lock proves nothing: workers are still reconnecting.
SETTLE_S = 5.0
# A hint leaves within milliseconds of the commit; after this long whoever should have sent it is gone.
HINT_OVERDUE_S = 5.0

_log = structlog.get_logger(__name__)


class MaintenanceJob(IntEnum):
    """The sweeps that run alone, by the second half of their lock's key."""

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


@dataclass(frozen=True, slots=True)
class MaintenanceService:
    """The sweeps; each says how much it did, in the log and to its caller."""

    db: Database
    blobs: BlobStore
    dispatcher: Dispatcher
    files: PartialFiles
    queue: QueueSettings
    retention: Retention
    blob_grace: timedelta
    clock_offset_s: int

    async def lost_workers(self) -> int:
        """Free the tasks of workers that died or fell silent; how many are to run again at once."""
        async with self.db.begin() as connection:
            recovered = await recovery.recover_lost(
                connection,
                max_strikes=self.queue.max_attempts,
                quiet_s=QUIET_HEARTBEATS * self.queue.heartbeat_s,
                settle_s=SETTLE_S,
            )
            await owe(connection, [task.task_id for task in recovered if task.state.terminal])
        for task in recovered:
            _log.warning("task.worker_lost", task_id=str(task.task_id), attempt=task.attempt, now=task.state)
            # Its worker can't tidy up. One that was only paused finds its files gone, and its lease too.
            folder = work_folder(self.blobs.work_root, task.task_id, task.attempt)
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        now = Counter(task.state for task in recovered)
        _tell(
            "lost_leases",
            again=now[TaskState.ENQUEUED],
            later=now[TaskState.SCHEDULED],
            failed=now[TaskState.FAILED],
        )
        return now[TaskState.ENQUEUED]

    async def turns(self) -> int:
        """Say of due tasks that their user's running limit holds them back; of how many."""
        async with self.db.begin() as connection:
            held = await concurrency.mark_throttled(
                connection, running_per_user=self.queue.running_per_user, at_most=BATCH
            )
        _tell("turns", held=held)
        return held

    async def unsent_hints(self) -> int:
        """Tell the queue of tasks that it should know of by now; of how many."""
        return await self._alone(MaintenanceJob.UNSENT_HINTS, self._unsent_hints)

    async def expired_artifacts(self) -> int:
        """Remove artifacts whose time has come; how many."""
        return await self._alone(MaintenanceJob.ARTIFACTS, self._expired_artifacts)

    async def old_tasks(self) -> int:
        """Remove the rows of tasks that ended long ago, with their logs; how many."""
        return await self._alone(MaintenanceJob.OLD_TASKS, self._old_tasks)

    async def old_idempotency_keys(self) -> int:
        """Remove the first answers that nobody may ask for any more; how many."""
        return await self._alone(MaintenanceJob.IDEMPOTENCY_KEYS, self._old_idempotency_keys)

    async def expired_uploads(self) -> int:
        """Remove uploads that have rested too long, and growing files that belong to none; how many."""
        return await self._alone(MaintenanceJob.UPLOADS, self._expired_uploads)

    async def deleted(self) -> int:
        """Remove the rows of deleted datasets and organizations; how many of them."""
        return await self._alone(MaintenanceJob.DELETED, lambda: remove_deleted(self.db, self.blobs))

    async def old_audit_events(self) -> int:
        """Remove what the audit log needn't keep any longer; how many events."""
        return await self._alone(MaintenanceJob.AUDIT_EVENTS, self._old_audit_events)

    async def old_sign_in_attempts(self) -> int:
        """Forget failed sign-ins that count no more; of how many accounts and addresses."""
        return await self._alone(MaintenanceJob.SIGN_IN_ATTEMPTS, self._old_sign_in_attempts)

    async def unused_derivatives(self) -> int:
        """Remove derivatives of contents that no entry has any more; how many."""
        return await self._alone(MaintenanceJob.UNUSED_DERIVATIVES, self._unused_derivatives)

    async def orphans(self) -> int:
        """Remove stored files that no row names and work folders that nobody works in; how many."""
        return await self._alone(MaintenanceJob.ORPHANS, self._orphans)

    async def _alone(self, sweep: MaintenanceJob, run: Callable[[], Awaitable[Mapping[str, int]]]) -> int:
        async with self.db.begin() as guard:
            if not await locks.try_take(guard, LockSpace.SWEEP, sweep):
                return 0
            counts = await locks.run_locked(guard, run())
        _tell(sweep.name.lower(), **counts)
        return sum(counts.values())

    async def _unsent_hints(self) -> Mapping[str, int]:
        async with self.db.read() as connection:
            found = await undispatched.find_undispatched(
                connection, older_than_s=HINT_OVERDUE_S, at_most=BATCH
            )
        if found:
            # A crash from here on sends them a second time, which wakes workers and does nothing else.
            await self.dispatcher.send([Wakeup(task.task_id, task.attempt) for task in found])
            async with self.db.begin() as connection:
                await cancel.mark_enqueued(connection, [task.task_id for task in found])
        return {"sent": len(found)}

    async def _expired_artifacts(self) -> Mapping[str, int]:
        total = 0
        while True:
            async with self.db.begin() as connection:
                freed = await retention.remove_expired_artifacts(
                    connection, clock_offset_s=self.clock_offset_s, at_most=BATCH
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
                    at_most=TASKS_AT_ONCE,
                )
            await self._remove(cleared.blob_keys)
            total += cleared.tasks
            if cleared.tasks < TASKS_AT_ONCE:
                return {"removed": total}

    async def _old_idempotency_keys(self) -> Mapping[str, int]:
        total = 0
        while True:
            async with self.db.begin() as connection:
                gone = await retention.remove_old_idempotency_keys(
                    connection, clock_offset_s=self.clock_offset_s, at_most=BATCH
                )
            total += gone
            if gone < BATCH:
                return {"removed": total}

    async def _old_audit_events(self) -> Mapping[str, int]:
        total = 0
        while True:
            async with self.db.begin() as connection:
                gone = await audit.remove_old(
                    connection,
                    retention_days=self.retention.audit_retention_days,
                    clock_offset_s=self.clock_offset_s,
                    max_count=BATCH,
                )
            total += gone
            if gone < BATCH:
                return {"removed": total}

    async def _old_sign_in_attempts(self) -> Mapping[str, int]:
        total = 0
        while True:
            async with self.db.begin() as connection:
                gone = await login_attempts.remove_expired(connection, max_count=BATCH)
            total += gone
            if gone < BATCH:
                return {"removed": total}

    async def _unused_derivatives(self) -> Mapping[str, int]:
        total = 0
        while True:
            async with self.db.begin() as connection:
                freed = await derivatives.remove_unused(
                    connection,
                    older_than=self.blob_grace,
                    clock_offset_s=self.clock_offset_s,
                    at_most=BATCH,
                )
            await self._remove(freed)
            total += len(freed)
            if len(freed) < BATCH:
                return {"removed": total}

    async def _expired_uploads(self) -> Mapping[str, int]:
        return await remove_expired_uploads(
            self.db, self.files, clock_offset_s=self.clock_offset_s, grace=self.blob_grace
        )

    # Why this never takes a blob that a committed row names, nor one that a row is about to name:
    # - A new blob is named within moments of being stored, and no blob younger than the grace time is
    #   looked at. (So the grace time must be longer than a worker outlasts an outage of Postgres for with
    #   finished outputs in its hands, `domain.retry.OUTAGE_S`: production mode asks for it.)
    # - An old blob gets another name only from a name that it has: the entry that a task reads, or is
    #   copied from. Whoever does that holds LockSpace.BLOBS shared from before they check that the old name
    #   is still there (`expiry.hold_names`) until they commit. The look that counts is made under the same
    #   lock held alone: before it, they have committed and are seen; after it, they find no name to take.
    #   So what it finds unnamed stays so for ever, and the files can go without the lock.
    async def _orphans(self) -> Mapping[str, int]:
        total = 0
        batches = self.blobs.older_than(self.blob_grace)
        while (batch := await asyncio.to_thread(next, batches, None)) is not None:
            async with self.db.read() as connection:
                suspects = set(batch) - await retention.named_among(connection, batch)
            if suspects:
                async with self.db.begin() as connection:
                    await locks.take(connection, LockSpace.BLOBS)
                    suspects -= await retention.named_among(connection, list(suspects))
                await self._remove(suspects)
            total += len(suspects)
        return {"blobs": total, "folders": await asyncio.to_thread(self._abandoned_work)}

    async def _remove(self, blob_keys: Iterable[str]) -> None:
        for key in blob_keys:
            failpoint("sweep-removing")
            await self.blobs.remove(key)

    def _abandoned_work(self) -> int:
        """Remove work folders that nobody has touched for the grace time: their workers are gone."""
        horizon = time.time() - self.blob_grace.total_seconds()
        abandoned = [folder for folder in self.blobs.work_root.iterdir() if _untouched_since(folder, horizon)]
        for folder in abandoned:
            shutil.rmtree(folder, ignore_errors=True)
        return len(abandoned)


def _untouched_since(folder: Path, horizon: float) -> bool:
    with suppress(FileNotFoundError):  # its attempt has just ended
        return folder.stat().st_mtime < horizon
    return False


def _tell(sweep: str, **counts: int) -> None:
    if any(counts.values()):
        _log.info("sweep.done", sweep=sweep, **counts)
