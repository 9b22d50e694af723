"""Saying of due tasks that only their user's running limit holds them back."""

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

_UNHELD = frozenset({TaskState.CREATED, TaskState.ENQUEUED})


def _of_busy_users(which: ColumnExpressionArgument[bool]) -> Select[Any]:
    running = aliased(Task)
    busy = (
        select(running.user_id)
        .where(running.state == text("'Processing'"))
        .group_by(running.user_id)
        .having(func.count() >= bindparam("running_per_user", type_=Integer))
        .subquery()
    )
    anonymous = and_(Task.user_id.is_(None), select(busy).where(busy.c.user_id.is_(None)).exists())
    return (
        select(Task.id)
        .where(which, Task.due_at <= db_now(), or_(Task.user_id.in_(select(busy.c.user_id)), anonymous))
        .order_by(Task.id)
        .limit(bindparam("at_most", type_=Integer))
        .with_for_update(skip_locked=True, of=Task)
    )


# Built once, since every worker asks once a poll.
_HOLD = move(
    TaskState.SCHEDULED, actor="sweep", reason=WaitReason.TURN.value, waits_for=WaitReason.TURN
).where(Task.id.in_(_of_busy_users(in_states(_UNHELD))))
# What was Scheduled for another reason stays so; the state does not change, only what it waits for.
_RENAME = (
    update(Task)
    .where(Task.id.in_(_of_busy_users(and_(text("state = 'Scheduled'"), Task.waits_for != WaitReason.TURN))))
    .values(waits_for=WaitReason.TURN)
)


async def mark_throttled(connection: AsyncConnection, *, running_per_user: int, at_most: int) -> int:
    """Move due tasks of users who run as many as they may to Scheduled, where they wait for their turn.

    It only tells: the claim decides by itself, and takes them from there as soon as there is room. Run
    twice it changes nothing more; rows that somebody is working on are left for the next time.

    Returns:
        How many tasks have begun to wait.
    """
    named = {"running_per_user": running_per_user, "at_most": at_most}
    moved = (await connection.execute(_HOLD, named)).rowcount
    await connection.execute(_RENAME, named)
    return moved
