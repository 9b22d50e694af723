"""Queries of the dispatch: tasks whose wakeup has not been sent to the wake-up queue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.db.clock import db_now
from aerotask.db.models import Task
from aerotask.domain.ids import TaskId
from aerotask.domain.states import TaskState
from aerotask.store.queue.transitions import move


@dataclass(frozen=True, slots=True)
class UndispatchedTask:
    """A task in state Created, and the number of its attempts."""

    task_id: TaskId
    attempt: int


async def find_undispatched(
    connection: AsyncConnection, *, older_than_s: float, max_count: int
) -> list[UndispatchedTask]:
    """The oldest due tasks whose wakeup should have been sent by now."""
    query = (
        select(Task.id, Task.attempt)
        .where(text("state = 'Created'"), Task.due_at <= db_now(plus_s=-older_than_s))
        .order_by(Task.due_at, Task.id)
        .limit(max_count)
    )
    return [
        UndispatchedTask(TaskId(task_id), attempt) for task_id, attempt in await connection.execute(query)
    ]


async def mark_enqueued(connection: AsyncConnection, task_ids: Sequence[TaskId]) -> None:
    """Move tasks from Created to Enqueued: their wakeups have been sent."""
    statement = move(TaskState.ENQUEUED, actor="dispatch", reason="hint sent")
    await connection.execute(statement.where(Task.id.in_(task_ids), Task.state == TaskState.CREATED))
