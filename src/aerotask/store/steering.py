"""What is done to tasks from outside a run: handed to the queue, ended, begun again, removed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnExpressionArgument, delete, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.domain.ids import DatasetId, TaskId
from aerotask.domain.states import TERMINAL, TaskState
from aerotask.store.clock import db_now
from aerotask.store.models import Artifact, Task, in_states
from aerotask.store.transitions import move

CANCEL_CHANNEL = "aerotask_cancelled"
"""Postgres tells workers on it, with the commit, which task has been cancelled."""


async def begin_again(connection: AsyncConnection, task_id: TaskId, *, by: str) -> int | None:
    """Hand a Failed or Deleted task to the queue for another attempt; the attempts so far, None if it is neither.

    It keeps its log and its history, and gets a new budget of strikes.
    """
    statement = (
        move(
            TaskState.ENQUEUED,
            by=by,
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
    statement = move(TaskState.ENQUEUED, by="dispatch", reason="hint sent")
    await connection.execute(statement.where(Task.id.in_(task_ids), Task.state == TaskState.CREATED))


@dataclass(frozen=True, slots=True)
class Deletion:
    """Whether a task became Deleted just now, and the blobs that it leaves."""

    moved: bool
    blob_keys: tuple[str, ...] = ()


async def delete_one(
    connection: AsyncConnection, dataset_id: DatasetId, task_id: TaskId, *, by: str
) -> Deletion | None:
    """Cancel an active task or mark an ended one Deleted; None if there is no such task.

    A task that is Deleted already stays so. Workers are told with the commit.
    """
    statement = move(TaskState.DELETED, by=by, reason="deleted").where(
        Task.id == task_id, Task.dataset_id == dataset_id
    )
    moved = (await connection.execute(statement.returning(Task.id))).scalar_one_or_none()
    if moved is None:
        there = select(Task.id).where(Task.id == task_id, Task.dataset_id == dataset_id)
        return Deletion(moved=False) if (await connection.execute(there)).first() else None
    await connection.execute(select(func.pg_notify(CANCEL_CHANNEL, str(task_id))))
    gone = delete(Artifact).where(Artifact.task_id == task_id).returning(Artifact.blob_key)
    return Deletion(moved=True, blob_keys=tuple((await connection.execute(gone)).scalars()))


@dataclass(frozen=True, slots=True)
class Cleared:
    """How many tasks went, and the blobs that they leave."""

    tasks: int
    blob_keys: tuple[str, ...]


async def clear_ended(connection: AsyncConnection, dataset_id: DatasetId, *, tool_id: str | None) -> Cleared:
    """Remove the dataset's ended tasks, of one tool or of all, with their logs and artifacts."""
    ended: list[ColumnExpressionArgument[bool]] = [Task.dataset_id == dataset_id, in_states(TERMINAL)]
    if tool_id is not None:
        ended.append(Task.tool_id == tool_id)
    return await remove_tasks(connection, ended)


async def remove_tasks(
    connection: AsyncConnection, which: Sequence[ColumnExpressionArgument[bool]]
) -> Cleared:
    """Remove the tasks that fulfil every condition, with their logs, inputs and artifacts."""
    ids = list((await connection.execute(select(Task.id).where(*which).with_for_update())).scalars())
    if not ids:
        return Cleared(0, ())
    gone = delete(Artifact).where(Artifact.task_id.in_(ids)).returning(Artifact.blob_key)
    keys = tuple((await connection.execute(gone)).scalars())
    await connection.execute(delete(Task).where(Task.id.in_(ids)))
    return Cleared(len(ids), keys)
