"""Noticing lost workers, and freeing what they held."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy import Select, and_, bindparam, func, or_, select, text
from sqlalchemy.dialects.postgresql import INTERVAL
from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.db.clock import db_now
from aerotask.db.locks import live_workers
from aerotask.db.models import Task
from aerotask.domain.ids import TaskId
from aerotask.domain.retry import FailureKind, after_failure
from aerotask.domain.states import TaskState, WaitReason
from aerotask.store.queue.transitions import move


# A worker is lost when its lease has run out, or at once when Postgres sees that its session has ended. The
# second needs care: after a restart of Postgres, or when just that one connection broke, the lock is away
# for a moment although the worker lives, so a recent sign of life outweighs it.
def _lost() -> Select[UUID, int, int]:
    session_ended = and_(
        Task.renewed_at < db_now() - bindparam("quiet", type_=INTERVAL),
        func.pg_postmaster_start_time() < db_now() - bindparam("settle", type_=INTERVAL),
        Task.worker_no.not_in(live_workers()),
    )
    return (
        select(Task.id, Task.strikes, Task.attempt)
        .where(text("state = 'Processing'"), or_(Task.lease_until < db_now(), session_ended))
        .order_by(Task.id)
        .with_for_update(skip_locked=True)
    )


# Built once, since every worker asks once a poll.
_LOST = _lost()


@dataclass(frozen=True, slots=True)
class RecoveredTask:
    """A task whose worker was lost, and what became of it."""

    task_id: TaskId
    attempt: int
    state: TaskState


async def recover_lost(
    connection: AsyncConnection, *, max_strikes: int, quiet_s: float, settle_s: float
) -> list[RecoveredTask]:
    """Free the tasks of lost workers: for another attempt, or Failed if that was the last strike allowed."""
    named = {"quiet": timedelta(seconds=quiet_s), "settle": timedelta(seconds=settle_s)}
    rows = (await connection.execute(_LOST, named)).all()
    recovered = []
    for task_id, strikes, attempt in rows:
        retry = after_failure(FailureKind.LOST_WORKER, failed_attempts=strikes + 1, max_attempts=max_strikes)
        if retry is None:
            state = TaskState.FAILED
            statement = move(
                TaskState.FAILED,
                actor="sweep",
                reason="worker-lost",
                error_code="worker-lost",
                error_message=(
                    f"The worker was lost in attempt {attempt}, the last of {strikes + 1} that ended badly. "
                    "The task may be too much for the machine; ask the administrator, then retry it."
                ),
                error_retryable=True,
                strikes=Task.strikes + 1,
            )
        else:
            state = TaskState.SCHEDULED if retry.delay_s else TaskState.ENQUEUED
            statement = move(
                state,
                actor="sweep",
                reason="worker lost",
                strikes=Task.strikes + 1,
                due_at=db_now(plus_s=retry.delay_s),
                waits_for=WaitReason.RETRY if retry.delay_s else None,
                phase=None,
            )
        await connection.execute(statement.where(Task.id == task_id))
        recovered.append(RecoveredTask(TaskId(task_id), attempt, state))
    return recovered
