"""Tasks of which the queue has not been told."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.db.clock import db_now
from aerotask.db.models import Task
from aerotask.domain.ids import TaskId


@dataclass(frozen=True, slots=True)
class UndispatchedTask:
    """A task in state Created, and how many attempts it has had."""

    task_id: TaskId
    attempt: int


async def find_undispatched(
    connection: AsyncConnection, *, older_than_s: float, at_most: int
) -> list[UndispatchedTask]:
    """The oldest due tasks whose hint should have been sent by now."""
    query = (
        select(Task.id, Task.attempt)
        .where(text("state = 'Created'"), Task.due_at <= db_now(plus_s=-older_than_s))
        .order_by(Task.due_at, Task.id)
        .limit(at_most)
    )
    return [
        UndispatchedTask(TaskId(task_id), attempt) for task_id, attempt in await connection.execute(query)
    ]
