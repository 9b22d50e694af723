"""What the holder of a lease may do: stay alive, report, and end the attempt.

Every statement carries the lease's token. No row back means that somebody else owns the task now: the
holder must stop and change nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Update, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.db.clock import db_now
from aerotask.db.models import Artifact, Task
from aerotask.domain.ids import LeaseToken, TaskId
from aerotask.domain.states import TaskState, WaitReason
from aerotask.store.queue import logs
from aerotask.store.queue.logs import LogLimits, LogMarks
from aerotask.store.queue.transitions import move


class LeaseLost(Exception):
    """The task has been cancelled or given to another worker; nothing of ours may take effect."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work on one attempt at a task."""

    task_id: TaskId
    token: LeaseToken
    attempt: int

    @property
    def name(self) -> str:
        """What the attempt is called where workers are told that it has been cancelled."""
        return f"{self.task_id}:{self.attempt}"


@dataclass(frozen=True, slots=True)
class Report:
    """What has happened since the last report: how far the run is, and log lines from number `first` on.

    The holder of the lease counts its own lines, so a report that is sent again after an unclear end of
    its transaction changes nothing.
    """

    first: int
    lines: tuple[str, ...] = ()
    percent: float = 0.0
    phase: str | None = None


@dataclass(frozen=True, slots=True)
class NewArtifact:
    """A stored file that becomes a task's artifact, or stands beside it."""

    file_name: str
    media_type: str
    blob_key: str
    size_bytes: int
    sha256: str
    ttl_s: float


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a task ended badly; `strike` if this last attempt counts against the task's retries."""

    code: str
    message: str
    retryable: bool = False
    strike: bool = False


async def renew(
    connection: AsyncConnection, tokens: Collection[LeaseToken], *, worker_no: int, ttl_s: float
) -> set[LeaseToken]:
    """Extend these leases of the worker; those of them that it still holds.

    A lease that the worker doesn't know of, since the answer to its claim was lost, must run out. One whose
    row somebody has locked is left to the next heartbeat: the others mustn't wait for it.
    """
    ours = (Task.state == TaskState.PROCESSING, Task.worker_no == worker_no, Task.lease_token.in_(tokens))
    free = select(Task.id).where(*ours).with_for_update(skip_locked=True, key_share=True)
    statement = (
        update(Task).where(Task.id.in_(free)).values(lease_until=db_now(plus_s=ttl_s), renewed_at=db_now())
    )
    await connection.execute(statement)
    held = (await connection.execute(select(Task.lease_token).where(*ours))).scalars()
    return {LeaseToken(token) for token in held if token}


async def check(connection: AsyncConnection, lease: Lease) -> None:
    """Look whether the lease is still ours, without keeping anybody from taking it away.

    Raises:
        LeaseLost: the task is no longer ours.
    """
    held = select(Task.id).where(Task.id == lease.task_id, Task.lease_token == lease.token)
    if (await connection.execute(held)).first() is None:
        raise LeaseLost


async def report(connection: AsyncConnection, lease: Lease, news: Report, *, keep: LogLimits) -> None:
    """Write progress and log lines.

    Raises:
        LeaseLost: the task is no longer ours.
    """
    statement = update(Task).values(**_progress(news))
    await _as_holder(connection, lease, news, keep=keep, statement=statement)


async def succeed(  # noqa: PLR0913  the parts of one outcome, committed together
    connection: AsyncConnection,
    lease: Lease,
    news: Report,
    *,
    keep: LogLimits,
    by: str,
    artifacts: Sequence[NewArtifact],
    outputs: Sequence[Mapping[str, str]],
    result: Mapping[str, Any] | None,
) -> None:
    """End the attempt well.

    Raises:
        LeaseLost: the task is no longer ours.
    """
    await _as_holder(
        connection,
        lease,
        news,
        keep=keep,
        statement=move(
            TaskState.SUCCEEDED,
            by=by,
            reason="finished",
            outputs=list(outputs),
            result=None if result is None else dict(result),
            artifact_bytes=sum(artifact.size_bytes for artifact in artifacts),
            percent=100,
            phase=None,
        ),
    )
    for ordinal, artifact in enumerate(artifacts):
        values = {
            "file_name": artifact.file_name,
            "media_type": artifact.media_type,
            "blob_key": artifact.blob_key,
            "size_bytes": artifact.size_bytes,
            "sha256": artifact.sha256,
            "expires_at": db_now(plus_s=artifact.ttl_s),
        }
        await connection.execute(insert(Artifact).values(task_id=lease.task_id, ordinal=ordinal, **values))


async def fail(  # noqa: PLR0913  as above
    connection: AsyncConnection,
    lease: Lease,
    news: Report,
    failure: Failure,
    *,
    keep: LogLimits,
    by: str,
) -> None:
    """End the attempt badly, and with it the task.

    Raises:
        LeaseLost: the task is no longer ours.
    """
    await _as_holder(
        connection,
        lease,
        news,
        keep=keep,
        statement=move(
            TaskState.FAILED,
            by=by,
            reason=failure.code,
            error_code=failure.code,
            error_message=failure.message,
            error_retryable=failure.retryable,
            strikes=Task.strikes + int(failure.strike),
            **_progress(news),
        ),
    )


async def try_again(  # noqa: PLR0913  as above
    connection: AsyncConnection,
    lease: Lease,
    news: Report,
    *,
    keep: LogLimits,
    by: str,
    reason: str,
    delay_s: float,
    strike: bool,
) -> None:
    """Give the task back for another attempt after `delay_s`; the log goes on with it.

    Raises:
        LeaseLost: the task is no longer ours.
    """
    await _as_holder(
        connection,
        lease,
        news,
        keep=keep,
        statement=move(
            TaskState.SCHEDULED if delay_s else TaskState.ENQUEUED,
            by=by,
            reason=reason,
            due_at=db_now(plus_s=delay_s),
            waits_for=WaitReason.RETRY if delay_s else None,
            phase=None,
            strikes=Task.strikes + int(strike),
        ),
    )


async def _as_holder(
    connection: AsyncConnection, lease: Lease, news: Report, *, keep: LogLimits, statement: Update
) -> None:
    mine = (Task.id == lease.task_id, Task.lease_token == lease.token)
    if news.lines:
        # The row's lock comes first: what the log holds and what is new is decided under it.
        asked = select(Task.log_dropped, Task.log_next, Task.log_bytes).where(*mine)
        before = (await connection.execute(asked.with_for_update(key_share=True))).one_or_none()
        if before is None:
            raise LeaseLost
        marks = LogMarks(*before)
        after = await logs.append(connection, lease.task_id, marks, news.lines, first=news.first, keep=keep)
        statement = statement.values(
            log_dropped=after.dropped, log_next=after.end, log_bytes=after.total_bytes
        )
    if (await connection.execute(statement.where(*mine))).rowcount == 0:
        raise LeaseLost


def _progress(news: Report) -> dict[str, Any]:
    return {"percent": func.greatest(Task.percent, news.percent), "phase": news.phase}
