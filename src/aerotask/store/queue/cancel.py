"""What is done to tasks from outside a run: handed to the queue, ended, begun again, removed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnExpressionArgument, any_, bindparam, delete, func, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.db.clock import db_now
from aerotask.db.models import Artifact, Task, in_states
from aerotask.domain.ids import DatasetId, TaskId
from aerotask.domain.states import TERMINAL, TaskState
from aerotask.store.queue.transitions import move

CANCEL_CHANNEL = "aerotask_cancelled"
"""Postgres tells workers on it, with the commit, which attempt has been cancelled (`Lease.name`)."""


async def begin_again(connection: AsyncConnection, task_id: TaskId, *, actor: str) -> int | None:
    """Hand a Failed or Deleted task to the queue for another attempt; the attempts so far, None if it is neither.

    It keeps its log and its history, and gets a new budget of strikes.
    """
    statement = (
        move(
            TaskState.ENQUEUED,
            actor=actor,
            reason="retried",
            due_at=db_now(),
            started_at=None,
            finished_at=None,
            strikes=0,
            percent=0,
            phase=None,
            error_code=None,
            error_message=None,
            error_retryable=None,
            result=None,
            outputs=[],
            artifact_bytes=0,
        )
        .where(Task.id == task_id, Task.state.in_([TaskState.FAILED, TaskState.DELETED]))
        .returning(Task.attempt)
    )
    return (await connection.execute(statement)).scalar_one_or_none()


async def mark_enqueued(connection: AsyncConnection, task_ids: Sequence[TaskId]) -> None:
    """Note that the hints of these tasks have been handed to the queue."""
    statement = move(TaskState.ENQUEUED, actor="dispatch", reason="hint sent")
    await connection.execute(statement.where(Task.id.in_(task_ids), Task.state == TaskState.CREATED))


@dataclass(frozen=True, slots=True)
class Deletion:
    """Whether a task became Deleted just now, and the blobs that it leaves."""

    moved: bool
    blob_keys: tuple[str, ...] = ()


async def delete_one(
    connection: AsyncConnection, dataset_id: DatasetId, task_id: TaskId, *, actor: str
) -> Deletion | None:
    """Cancel an active task or mark an ended one Deleted; None if there is no such task.

    A task that is Deleted already stays so. Workers are told with the commit.
    """
    statement = move(TaskState.DELETED, actor=actor, reason="deleted").where(
        Task.id == task_id, Task.dataset_id == dataset_id
    )
    attempt = (await connection.execute(statement.returning(Task.attempt))).scalar_one_or_none()
    if attempt is None:
        there = select(Task.id).where(Task.id == task_id, Task.dataset_id == dataset_id)
        return Deletion(moved=False) if (await connection.execute(there)).first() else None
    await connection.execute(select(func.pg_notify(CANCEL_CHANNEL, f"{task_id}:{attempt}")))
    gone = delete(Artifact).where(Artifact.task_id == task_id).returning(Artifact.blob_key)
    return Deletion(moved=True, blob_keys=tuple((await connection.execute(gone)).scalars()))


TASKS_AT_ONCE = 20
"""So many tasks go in one transaction: each may have a log of ten thousand lines."""


@dataclass(frozen=True, slots=True)
class ClearedTasks:
    """How many tasks went, and the blobs that they leave."""

    tasks: int
    blob_keys: tuple[str, ...]


async def clear_ended(
    connection: AsyncConnection, dataset_id: DatasetId, *, tool_id: str | None, at_most: int = TASKS_AT_ONCE
) -> ClearedTasks:
    """Remove some of the dataset's ended tasks, of one tool or of all, with their logs and artifacts."""
    ended: list[ColumnExpressionArgument[bool]] = [Task.dataset_id == dataset_id, in_states(TERMINAL)]
    if tool_id is not None:
        ended.append(Task.tool_id == tool_id)
    return await remove_tasks(connection, ended, at_most=at_most)


async def remove_tasks(
    connection: AsyncConnection, which: Sequence[ColumnExpressionArgument[bool]], *, at_most: int
) -> ClearedTasks:
    """Remove tasks that fulfil every condition, with their logs, inputs and artifacts."""
    found = select(Task.id).where(*which).limit(at_most).with_for_update()
    ids = list((await connection.execute(found)).scalars())
    if not ids:
        return ClearedTasks(0, ())
    keys = tuple((await connection.execute(_REMOVE_ARTIFACTS, {"ids": ids})).scalars())
    await connection.execute(_REMOVE_TASKS, {"ids": ids})
    return ClearedTasks(len(ids), keys)


# One array and not a parameter for each: Postgres takes 32,767 of them.
_IDS = any_(bindparam("ids", type_=ARRAY(Task.id.type)))
_REMOVE_ARTIFACTS = delete(Artifact).where(Artifact.task_id == _IDS).returning(Artifact.blob_key)
_REMOVE_TASKS = delete(Task).where(Task.id == _IDS)
