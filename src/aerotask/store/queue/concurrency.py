"""Marks due tasks that wait only because of their user's concurrency limit."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    ColumnExpressionArgument,
    Integer,
    Select,
    and_,
    bindparam,
    func,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import aliased

from aerotask.db.clock import db_now
from aerotask.db.models import Task, in_states
from aerotask.domain.states import TaskState, WaitReason
from aerotask.store.queue.transitions import move

_UNMARKED = frozenset({TaskState.CREATED, TaskState.ENQUEUED})


def _of_busy_users(condition: ColumnExpressionArgument[bool]) -> Select[Any]:
    running = aliased(Task)
    busy = (
        select(running.user_id)
        .where(running.state == text("'Processing'"))
        .group_by(running.user_id)
        .having(func.count() >= bindparam("max_running_per_user", type_=Integer))
        .subquery()
    )
    anonymous = and_(Task.user_id.is_(None), select(busy).where(busy.c.user_id.is_(None)).exists())
    return (
        select(Task.id)
        .where(condition, Task.due_at <= db_now(), or_(Task.user_id.in_(select(busy.c.user_id)), anonymous))
        .order_by(Task.id)
        .limit(bindparam("max_count", type_=Integer))
    )


def _locked(tasks: Select[Any]) -> Select[Any]:
    return tasks.with_for_update(skip_locked=True, of=Task)


# Built once: every worker runs them at each poll.
_WAITING = _of_busy_users(in_states(_UNMARKED))
_RETRYING = _of_busy_users(and_(text("state = 'Scheduled'"), Task.waits_for == WaitReason.RETRY))
_ANY = _WAITING.order_by(None).union_all(_RETRYING.order_by(None))
_MARK = move(
    TaskState.SCHEDULED, actor="sweep", reason=WaitReason.TURN.value, waits_for=WaitReason.TURN
).where(Task.id.in_(_locked(_WAITING)))
# Tasks that wait for a retry keep their state; only their `waits_for` changes. Those that wait for their time aren't
# admitted yet.
_CHANGE_REASON = update(Task).where(Task.id.in_(_locked(_RETRYING))).values(waits_for=WaitReason.TURN)


async def any_throttled(connection: AsyncConnection, *, max_running_per_user: int) -> bool:
    """Whether `mark_throttled` has anything to do; a cheap check."""
    params = {"max_running_per_user": max_running_per_user, "max_count": 1}
    return (await connection.execute(_ANY, params)).first() is not None


async def mark_throttled(connection: AsyncConnection, *, max_running_per_user: int, max_count: int) -> int:
    """Move due tasks of users at their concurrency limit to Scheduled; the number of them.

    This only informs clients: the claim checks the limit itself, and claims such tasks as soon as it allows.
    Idempotent; locked rows are left to the next time.
    """
    params = {"max_running_per_user": max_running_per_user, "max_count": max_count}
    moved = (await connection.execute(_MARK, params)).rowcount
    await connection.execute(_CHANGE_REASON, params)
    return moved
