"""Operations of a lease's holder: renew it, report progress, and finish the attempt.

Every statement is fenced by the lease's token. If it changes no row, another worker owns the task, and the
caller must stop without changing anything.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy import Update, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.db.clock import db_now
from aerotask.db.models import Artifact, Task
from aerotask.domain.ids import LeaseToken, TaskId
from aerotask.domain.settings import LogLimits
from aerotask.domain.states import TaskState, WaitReason
from aerotask.store.queue import logs
from aerotask.store.queue.logs import LogMarks
from aerotask.store.queue.transitions import move


class LeaseLost(Exception):
    """The task has been cancelled or given to another worker; nothing that this one writes may take effect."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work on one attempt at a task."""

    task_id: TaskId
    token: LeaseToken
    attempt: int

    @property
    def name(self) -> str:
        """The attempt's name in cancel notifications."""
        return f"{self.task_id}:{self.attempt}"


@dataclass(frozen=True, slots=True)
class Report:
    """Progress since the last report, and log lines from number `first` on.

    The holder of the lease numbers its own lines, so a report that is repeated after a lost commit answer
    changes nothing.
    """

    first: int
    lines: tuple[str, ...] = ()
    percent: float = 0.0
    phase: str | None = None


@dataclass(frozen=True, slots=True)
class NewArtifact:
    """A stored file that becomes a task's artifact, or one of its further assets."""

    file_name: str
    media_type: str
    blob_key: str
    size_bytes: int
    sha256: str
    ttl_s: float


@dataclass(frozen=True, slots=True)
class Success:
    """The task has succeeded, with these artifacts and outputs."""

    artifacts: Sequence[NewArtifact] = ()
    """The first is the task's result."""
    outputs: Sequence[Mapping[str, str]] = ()
    """Path and hash of each entry that was put."""
    result: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """The task has failed; `counts_as_failed` if this attempt counts against the limit of attempts."""

    code: str
    message: str
    retryable: bool = False
    counts_as_failed: bool = False


@dataclass(frozen=True, slots=True)
class Retry:
    """The task goes back to the queue for another attempt after `delay_s`; its log continues."""

    reason: str
    delay_s: float = 0.0
    counts_as_failed: bool = False


Outcome: TypeAlias = Success | Failure | Retry


async def renew(
    connection: AsyncConnection, tokens: Collection[LeaseToken], *, worker_no: int, ttl_s: float
) -> set[LeaseToken]:
    """Extend these leases of the worker, and return those that it still holds.

    A lease that the worker doesn't know, because the answer to its claim was lost, must expire. One whose row
    is locked by another transaction is left to the next heartbeat: it mustn't delay the others.
    """
    ours = (Task.state == TaskState.PROCESSING, Task.worker_no == worker_no, Task.lease_token.in_(tokens))
    free = select(Task.id).where(*ours).with_for_update(skip_locked=True, key_share=True)
    statement = (
        update(Task).where(Task.id.in_(free)).values(lease_until=db_now(plus_s=ttl_s), renewed_at=db_now())
    )
    await connection.execute(statement)
    held = (await connection.execute(select(Task.lease_token).where(*ours))).scalars()
    return {LeaseToken(token) for token in held if token}


async def raise_if_lost(connection: AsyncConnection, lease: Lease) -> None:
    """Check that the lease is still held, without a lock that would delay a cancel.

    Raises:
        LeaseLost: the task is no longer ours.
    """
    held = select(Task.id).where(Task.id == lease.task_id, Task.lease_token == lease.token)
    if (await connection.execute(held)).first() is None:
        raise LeaseLost


async def lock_held(connection: AsyncConnection, lease: Lease) -> None:
    """Check that the lease is held, and keep it from being lost until the transaction ends; only for short ones.

    Raises:
        LeaseLost: the task is no longer ours.
    """
    held = select(Task.id).where(Task.id == lease.task_id, Task.lease_token == lease.token)
    if (await connection.execute(held.with_for_update(read=True))).first() is None:
        raise LeaseLost


async def report(connection: AsyncConnection, lease: Lease, latest: Report, *, log_limits: LogLimits) -> None:
    """Write progress and log lines.

    Raises:
        LeaseLost: the task is no longer ours.
    """
    statement = update(Task).values(**_progress(latest))
    await _update_held(connection, lease, latest, log_limits=log_limits, statement=statement)


async def finish(  # noqa: PLR0913  the parts of one outcome, committed together
    connection: AsyncConnection,
    lease: Lease,
    outcome: Outcome,
    last_report: Report,
    *,
    log_limits: LogLimits,
    actor: str,
) -> None:
    """End the attempt with its outcome and its last report.

    Raises:
        LeaseLost: the task is no longer ours.
    """
    statement = _transition(outcome, last_report, actor=actor)
    await _update_held(connection, lease, last_report, log_limits=log_limits, statement=statement)
    if isinstance(outcome, Success):
        await _insert_artifacts(connection, lease.task_id, outcome.artifacts)


def _transition(outcome: Outcome, last_report: Report, *, actor: str) -> Update:
    if isinstance(outcome, Success):
        return move(
            TaskState.SUCCEEDED,
            actor=actor,
            reason="finished",
            outputs=list(outcome.outputs),
            result=None if outcome.result is None else dict(outcome.result),
            artifact_bytes=sum(artifact.size_bytes for artifact in outcome.artifacts),
            percent=100,
            phase=None,
        )
    failed_attempts = Task.failed_attempts + int(outcome.counts_as_failed)
    if isinstance(outcome, Failure):
        return move(
            TaskState.FAILED,
            actor=actor,
            reason=outcome.code,
            error_code=outcome.code,
            error_message=outcome.message,
            error_retryable=outcome.retryable,
            failed_attempts=failed_attempts,
            **_progress(last_report),
        )
    return move(
        TaskState.SCHEDULED if outcome.delay_s else TaskState.ENQUEUED,
        actor=actor,
        reason=outcome.reason,
        due_at=db_now(plus_s=outcome.delay_s),
        waits_for=WaitReason.RETRY if outcome.delay_s else None,
        phase=None,
        failed_attempts=failed_attempts,
    )


async def _insert_artifacts(
    connection: AsyncConnection, task_id: TaskId, artifacts: Sequence[NewArtifact]
) -> None:
    for ordinal, artifact in enumerate(artifacts):
        values = {
            "file_name": artifact.file_name,
            "media_type": artifact.media_type,
            "blob_key": artifact.blob_key,
            "size_bytes": artifact.size_bytes,
            "sha256": artifact.sha256,
            "expires_at": db_now(plus_s=artifact.ttl_s),
        }
        await connection.execute(insert(Artifact).values(task_id=task_id, ordinal=ordinal, **values))


async def _update_held(
    connection: AsyncConnection, lease: Lease, new: Report, *, log_limits: LogLimits, statement: Update
) -> None:
    held = (Task.id == lease.task_id, Task.lease_token == lease.token)
    if new.lines:
        # Lock the row first: the log's marks are read and written under that lock.
        marks_query = select(Task.log_dropped, Task.log_next, Task.log_bytes).where(*held)
        before = (await connection.execute(marks_query.with_for_update(key_share=True))).one_or_none()
        if before is None:
            raise LeaseLost
        after = await logs.append(
            connection, lease.task_id, LogMarks(*before), new.lines, first=new.first, limits=log_limits
        )
        statement = statement.values(
            log_dropped=after.dropped, log_next=after.end, log_bytes=after.total_bytes
        )
    if (await connection.execute(statement.where(*held))).rowcount == 0:
        raise LeaseLost


def _progress(latest: Report) -> dict[str, Any]:
    return {"percent": func.greatest(Task.percent, latest.percent), "phase": latest.phase}
