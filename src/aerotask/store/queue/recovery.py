"""Recovery of tasks whose worker was lost."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy import Select, and_, any_, bindparam, func, or_, select, text
from sqlalchemy.dialects.postgresql import ARRAY, INTERVAL
from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.db.clock import db_now
from aerotask.db.locks import live_workers
from aerotask.db.models import Task
from aerotask.domain.ids import TaskId
from aerotask.domain.retry import FailureKind, retry_delay_s
from aerotask.domain.states import TaskState, WaitReason
from aerotask.store.queue.transitions import move


# A worker is lost when its lease has expired, or at once when its session with Postgres has ended. The second
# needs care: after a restart of Postgres, or when just that connection broke, the lock is missing for a
# moment although the worker is alive, so a recent heartbeat takes precedence.
def _lost() -> Select[UUID, int, int]:
    session_ended = and_(
        Task.renewed_at < db_now() - bindparam("quiet", type_=INTERVAL),
        func.pg_postmaster_start_time() < db_now() - bindparam("settle", type_=INTERVAL),
        Task.worker_no.not_in(live_workers()),
    )
    return (
        select(Task.id, Task.failed_attempts, Task.attempt)
        .where(text("state = 'Processing'"), or_(Task.lease_until < db_now(), session_ended))
        .order_by(Task.id)
    )


# Built once: every worker runs it at each poll.
_LOST = _lost().with_for_update(skip_locked=True)
_ANY_LOST = _lost().limit(1)


@dataclass(frozen=True, slots=True)
class RecoveredTask:
    """A task whose worker was lost, and its new state."""

    task_id: TaskId
    attempt: int
    state: TaskState


async def any_lost(connection: AsyncConnection, *, quiet_s: float, settle_s: float) -> bool:
    """Whether any task's worker was lost; a cheap check before `recover_lost`."""
    params = {"quiet": timedelta(seconds=quiet_s), "settle": timedelta(seconds=settle_s)}
    return (await connection.execute(_ANY_LOST, params)).first() is not None


async def recover_lost(
    connection: AsyncConnection, *, max_attempts: int, quiet_s: float, settle_s: float
) -> list[RecoveredTask]:
    """Release the tasks of lost workers: for another attempt, or Failed once the limit of attempts is reached."""
    params = {"quiet": timedelta(seconds=quiet_s), "settle": timedelta(seconds=settle_s)}
    rows = (await connection.execute(_LOST, params)).all()
    recovered = []
    for task_id, failed_before, attempt in rows:
        failed_attempts = failed_before + 1
        delay_s = retry_delay_s(
            FailureKind.LOST_WORKER, failed_attempts=failed_attempts, max_attempts=max_attempts
        )
        if delay_s is None:
            state = TaskState.FAILED
            statement = move(
                TaskState.FAILED,
                actor="sweep",
                reason="worker-lost",
                error_code="worker-lost",
                error_message=(
                    f"The worker was lost in attempt {attempt}, the last of {failed_attempts} failed attempts. "
                    "The task may need more than the machine has; ask the administrator, then retry it."
                ),
                error_retryable=True,
                failed_attempts=failed_attempts,
            )
        else:
            state = TaskState.SCHEDULED if delay_s else TaskState.ENQUEUED
            statement = move(
                state,
                actor="sweep",
                reason="worker lost",
                failed_attempts=failed_attempts,
                due_at=db_now(plus_s=delay_s),
                waits_for=WaitReason.RETRY if delay_s else None,
                phase=None,
            )
        await connection.execute(statement.where(Task.id == task_id))
        recovered.append(RecoveredTask(TaskId(task_id), attempt, state))
    return recovered


async def running_among(
    connection: AsyncConnection, attempts: Collection[tuple[TaskId, int]]
) -> set[tuple[TaskId, int]]:
    """Those of the attempts, each a task and its number, that are running."""
    if not attempts:
        return set()
    rows = await connection.execute(_RUNNING_AMONG, {"task_ids": [task_id for task_id, _ in attempts]})
    return {(TaskId(task_id), attempt) for task_id, attempt in rows} & set(attempts)


_RUNNING_AMONG = select(Task.id, Task.attempt).where(
    Task.id == any_(bindparam("task_ids", type_=ARRAY(Task.id.type))), text("state = 'Processing'")
)
