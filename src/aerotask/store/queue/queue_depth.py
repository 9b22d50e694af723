"""Queue depth for monitoring: active tasks by state, and the age of the oldest due one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Float, cast, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.db.clock import db_now
from aerotask.db.models import Task, in_states
from aerotask.domain.states import ACTIVE, WAITING, TaskState


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """Active tasks by state, and how long the oldest due one has waited."""

    tasks: Mapping[TaskState, int]
    oldest_due_s: float


_COUNTS = select(Task.state, func.count()).where(in_states(ACTIVE)).group_by(Task.state)
_OLDEST = select(
    cast(func.coalesce(func.extract("epoch", db_now() - func.min(Task.due_at)), 0), Float)
).where(in_states(WAITING), Task.due_at <= db_now())


async def read(connection: AsyncConnection) -> QueueDepth:
    """The queue depth of the whole system."""
    counts = {TaskState(state): count for state, count in await connection.execute(_COUNTS)}
    oldest_due_s: float = (await connection.execute(_OLDEST)).scalar_one()
    return QueueDepth({state: counts.get(state, 0) for state in sorted(ACTIVE)}, oldest_due_s)
