"""Retry of an ended task by a person."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.db.clock import db_now
from aerotask.db.models import Task
from aerotask.domain.ids import TaskId
from aerotask.domain.states import TaskState
from aerotask.store.queue.transitions import move


async def requeue(connection: AsyncConnection, task_id: TaskId, *, actor: str) -> int | None:
    """Enqueue a Failed or Deleted task again; the number of attempts so far, None if it is in another state.

    It keeps its log and its history; its failed attempts are counted from zero.
    """
    statement = (
        move(
            TaskState.ENQUEUED,
            actor=actor,
            reason="retried",
            due_at=db_now(),
            started_at=None,
            finished_at=None,
            failed_attempts=0,
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
