"""Commit of an attempt: its changes, its outcome and the webhooks about it, in one transaction fenced by the lease."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import islice
from typing import Any, TypeAlias

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.aio import cancel_and_wait
from aerotask.blobs.blob_store import Blob, BlobStore
from aerotask.blobs.storage_root import StorageAway
from aerotask.db.engine import Database
from aerotask.db.outages import is_outage, outlast
from aerotask.domain import paths
from aerotask.domain.disk_full import is_disk_full
from aerotask.domain.errors import AerotaskError
from aerotask.domain.retry import OUTAGE_S, outage_delay_s
from aerotask.domain.settings import LogLimits, StorageQuota
from aerotask.sdk.changes import PublishedArtifact
from aerotask.services.datasets.storage_quota import UNLIMITED, within_limits
from aerotask.services.tasks.outcome.changes import AppliedChanges, StoredChanges, apply_changes
from aerotask.services.tasks.webhooks import enqueue_webhooks
from aerotask.store.queue import leases, retention
from aerotask.store.queue.claims import ClaimedTask
from aerotask.store.queue.leases import Failure, LeaseLost, NewArtifact, Report, Retry, Success

MAX_LISTED = 1000
"""Replaced files that a result lists; it gives their number as well."""

Outcome: TypeAlias = StoredChanges | Failure | Retry
"""Outcome of an attempt: changes to apply, a final failure, or a retry."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class CommitService:
    """Ends the attempts of one worker."""

    db: Database
    blobs: BlobStore
    storage: StorageQuota
    log_limits: LogLimits
    artifact_ttl: timedelta
    actor: str

    async def finish(
        self, task: ClaimedTask, outcome: Outcome, last_report: Report, *, lost: asyncio.Event
    ) -> Outcome:
        """Commit the outcome, waiting for Postgres if it is away; returns the outcome that took effect.

        Changes that can't be applied make it a failure. Stored outputs that no row references are removed.

        Raises:
            LeaseLost: the task is no longer ours, or `lost` was set while this waited.
        """
        try:
            await _unless_lost(self._commit_outlasting(task, outcome, last_report), lost)
        except (AerotaskError, OSError) as error:
            if is_outage(error):
                raise
            if isinstance(error, OSError):
                _log.error("storage.failed", task_id=str(task.lease.task_id), error=str(error))
            # The changes don't fit the dataset as it is now, or can't be read.
            await self._discard_outputs(outcome)
            outcome = await outcome_of(error, self.blobs, attempt=task.lease.attempt)
            await self._commit_outlasting(task, outcome, last_report)
        except LeaseLost:
            await self._discard_outputs(outcome)
            raise
        return outcome

    async def publish(self, task: ClaimedTask, changes: StoredChanges, *, lost: asyncio.Event) -> None:
        """Apply changes while the task runs, waiting for Postgres if it is away; only for derivatives.

        Raises:
            LeaseLost: the task is no longer ours, or `lost` was set while this waited.
            TaskFailed: the changes can't be applied. In both cases their stored content is removed.
        """
        publishing = outlast(lambda: self._publish(task, changes), give_up_after_s=OUTAGE_S)
        try:
            await _unless_lost(publishing, lost)
        except (AerotaskError, LeaseLost):
            await self._discard_outputs(changes)
            raise

    async def _publish(self, task: ClaimedTask, changes: StoredChanges) -> None:
        async with self.db.begin_short() as connection:
            await apply_changes(connection, task, changes)
            # After the changes, in the order in which the commit of a run locks.
            await leases.lock_held(connection, task.lease)

    async def _commit_outlasting(self, task: ClaimedTask, outcome: Outcome, last_report: Report) -> None:
        await outlast(lambda: self._commit(task, outcome, last_report), give_up_after_s=OUTAGE_S)

    async def _commit(self, task: ClaimedTask, outcome: Outcome, last_report: Report) -> None:
        async with self.db.begin() as connection:
            if isinstance(outcome, StoredChanges):
                # Only edits can make the dataset larger.
                storage = self.storage if outcome.edits else UNLIMITED
                async with within_limits(connection, storage, task.dataset_id):
                    await self.commit_success(connection, task, outcome, last_report)
            else:
                await self._finish_lease(connection, task, outcome, last_report)
            if task.callback_url is not None and not isinstance(outcome, Retry):
                await enqueue_webhooks(connection, [task.lease.task_id])

    async def commit_success(
        self, connection: AsyncConnection, task: ClaimedTask, changes: StoredChanges, last_report: Report
    ) -> None:
        """Change the dataset as the run declared and end the task as Succeeded.

        The changes may take minutes. The task's row is locked after them, otherwise heartbeats and cancels
        would wait for it; if the lease is lost meanwhile, everything is rolled back.

        Raises:
            LeaseLost: the task is no longer ours.
            Conflict, TaskFailed: the changes can't be applied.
        """
        await leases.raise_if_lost(connection, task.lease)
        applied = await apply_changes(connection, task, changes)
        success = Success(
            [self._new_artifact(artifact) for artifact in changes.artifacts],
            [{"path": edit.at, "hash": edit.content.sha256} for edit in applied.puts],
            _with_replaced(changes.result, applied),
        )
        warnings = map(_removal_skipped, applied.skipped_removals)
        report = replace(last_report, lines=(*last_report.lines, *warnings))
        await self._finish_lease(connection, task, success, report)

    async def _finish_lease(
        self, connection: AsyncConnection, task: ClaimedTask, outcome: leases.Outcome, report: Report
    ) -> None:
        await leases.finish(
            connection, task.lease, outcome, report, log_limits=self.log_limits, actor=self.actor
        )

    def _new_artifact(self, artifact: PublishedArtifact[Blob]) -> NewArtifact:
        return NewArtifact(
            file_name=artifact.name,
            media_type=artifact.media_type,
            blob_key=artifact.content.key,
            size_bytes=artifact.content.size_bytes,
            sha256=artifact.content.sha256,
            ttl_s=self.artifact_ttl.total_seconds(),
        )

    async def _discard_outputs(self, outcome: Outcome) -> None:
        """Remove stored outputs, except those that a commit whose answer was lost has referenced after all."""
        if not isinstance(outcome, StoredChanges) or not outcome.blob_keys:
            return
        keys = outcome.blob_keys
        referenced = await outlast(lambda: self._referenced(keys), give_up_after_s=OUTAGE_S)
        for key in set(keys) - referenced:
            await self.blobs.remove(key)

    async def _referenced(self, blob_keys: Sequence[str]) -> set[str]:
        async with self.db.read() as connection:
            return await retention.referenced_among(connection, blob_keys)


async def outcome_of(error: AerotaskError | OSError, blobs: BlobStore, *, attempt: int) -> Failure | Retry:
    """The failure that a task ends with because of this error; a retry if the storage is away, which may explain it.

    It is one too if the storage was away when the error was raised, though it may have come back since.
    """
    if isinstance(error, StorageAway):
        return _retry_when_back(attempt)
    return await retry_if_away(blobs, attempt=attempt) or failure_of(error)


async def retry_if_away(blobs: BlobStore, *, attempt: int) -> Retry | None:
    """Another attempt of a task, after a pause, if the storage is away at this moment: it says nothing about the task."""
    try:
        await asyncio.to_thread(blobs.require)
    except OSError:
        return _retry_when_back(attempt)
    return None


def _retry_when_back(attempt: int) -> Retry:
    return Retry("storage away", delay_s=outage_delay_s(attempt))


def failure_of(error: AerotaskError | OSError) -> Failure:
    """The failure that a task ends with because of this error."""
    if isinstance(error, AerotaskError):
        return Failure(error.code, error.message)
    # Not retried automatically: the storage would only fail again until a person has repaired it.
    if is_disk_full(error):
        return Failure("disk-full", "The storage is full; free space, then retry.", retryable=True)
    return Failure(
        "storage-error",
        # Not the error's own text, which may name a file of the server.
        f"The storage failed ({os.strerror(error.errno) if error.errno else 'unknown error'}).",
        retryable=True,
    )


async def _unless_lost(commit: Coroutine[Any, Any, None], lost: asyncio.Event) -> None:
    """Finish the commit, or cancel it once the lease is lost.

    If the lease is gone, either another worker has it (our commit will fail) or our own commit just ended it.

    Raises:
        LeaseLost: the commit was cancelled.
    """
    committing = asyncio.ensure_future(commit)
    waiting = asyncio.create_task(lost.wait())
    try:
        await asyncio.wait({committing, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if not committing.done():
            raise LeaseLost
        committing.result()
    finally:
        await cancel_and_wait(committing, waiting)


def _with_replaced(result: Mapping[str, Any] | None, applied: AppliedChanges) -> Mapping[str, Any] | None:
    """The run's result; if it put files, with those that they replaced, and their former hashes."""
    if not applied.puts:
        return result
    listed = islice(applied.replaced.items(), MAX_LISTED)
    replaced = [{"path": path, "hash": sha256} for path, sha256 in listed]
    return {**(result or {}), "replaced": replaced, "replacedCount": len(applied.replaced)}


def _removal_skipped(path: str) -> str:
    return f"Warning: {paths.shown(path)} was not removed: its content has changed since the task read it."
