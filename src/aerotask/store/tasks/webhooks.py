"""Queries for the messages that receivers are owed about ended tasks."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Text,
    Update,
    all_,
    any_,
    bindparam,
    exists,
    func,
    insert,
    select,
    text,
    true,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, INTERVAL, JSONB
from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.db.clock import db_now
from aerotask.db.models import Task, Webhook
from aerotask.domain.ids import DatasetId, TaskId, UserId, new_id
from aerotask.domain.webhooks import NextStep, WebhookState

CHANNEL = "aerotask_callbacks"
"""Postgres tells workers on it, with the commit, that there is a message to deliver."""


@dataclass(frozen=True, slots=True)
class ClaimedWebhook:
    """A message that one worker holds until `held_until`, which is the fencing token as well."""

    id: UUID
    task_id: TaskId
    dataset_id: DatasetId
    user_id: UserId | None
    url: str
    host: str
    body: bytes
    tries: int
    held_until: datetime


@dataclass(frozen=True, slots=True)
class WebhookRow:
    """A message as its task's owner sees it."""

    id: UUID
    url: str
    state: WebhookState
    created_at: datetime
    due_at: datetime
    tries: int
    attempts: list[Any]


# A receiver that has answered 410 wants to hear no more of that task, whatever becomes of it.
_OWED = select(Task.id).where(
    Task.id == any_(bindparam("task_ids", type_=ARRAY(Task.id.type))),
    Task.callback_url.is_not(None),
    ~exists().where(Webhook.task_id == Task.id, Webhook.state == WebhookState.REFUSED),
)


async def owed_among(connection: AsyncConnection, task_ids: Sequence[TaskId]) -> list[TaskId]:
    """Those of the tasks whose submitter wants to be called."""
    found = await connection.execute(_OWED, {"task_ids": list(task_ids)})
    return [TaskId(task_id) for task_id in found.scalars()]


async def add(
    connection: AsyncConnection, *, task_id: TaskId, user_id: UserId | None, url: str, body: bytes
) -> None:
    """Owe a message, and tell workers of it once this transaction commits."""
    columns = {"id": new_id(), "task_id": task_id, "user_id": user_id, "url": url, "body": body}
    await connection.execute(insert(Webhook).values(columns))
    await connection.execute(select(func.pg_notify(CHANNEL, "")))


# Of a checked URL, which holds no user name: what stands between `//` and the path is host and port.
_HOST = func.lower(func.substring(Webhook.url, "^[A-Za-z]+://([^/?]+)", type_=Text))
# The state as a literal, or no partial index would serve it; `now()`, since of a volatile clock the index
# could not make use.
_DUE = (
    select(Webhook.id)
    .where(
        text("callbacks.state = 'waiting'"),
        Webhook.due_at <= func.now(),
        func.coalesce(Webhook.user_id != all_(bindparam("users", type_=ARRAY(Task.id.type))), true()),
        all_(bindparam("hosts", type_=ARRAY(Text))) != _HOST,
    )
    .order_by(Webhook.due_at)
    .limit(1)
    .with_for_update(skip_locked=True)
)
_HOLD = (
    update(Webhook)
    .where(Webhook.id == _DUE.scalar_subquery(), Task.id == Webhook.task_id)
    .values(due_at=func.clock_timestamp() + bindparam("hold", type_=INTERVAL))
    .returning(
        Webhook.id,
        Webhook.task_id,
        Task.dataset_id,
        Webhook.user_id,
        Webhook.url,
        _HOST.label("host"),
        Webhook.body,
        Webhook.tries,
        Webhook.due_at.label("held_until"),
    )
)


async def hold_next(
    connection: AsyncConnection,
    *,
    hold_s: float,
    without_users: Collection[UserId],
    without_hosts: Collection[str],
) -> ClaimedWebhook | None:
    """Take the message that is due longest, of other users and hosts than these, for `hold_s` seconds.

    Its due time moves to the end of that: whoever dies over it leaves it to be tried again then.
    """
    named = {
        "hold": timedelta(seconds=hold_s),
        "users": list(without_users),
        "hosts": list(without_hosts),
    }
    row = (await connection.execute(_HOLD, named)).mappings().one_or_none()
    return None if row is None else ClaimedWebhook(**row)


async def record_try(
    connection: AsyncConnection, message: ClaimedWebhook, attempt: Mapping[str, Any], then: NextStep
) -> bool:
    """Note how a try went and what follows; False if the message is somebody else's by now."""
    values: dict[str, Any] = {
        "state": then.state,
        "tries": message.tries + 1,
        "attempts": Webhook.attempts.op("||")(func.jsonb_build_array(bindparam("attempt", type_=JSONB))),
    }
    if then.pause_s is not None:
        values["due_at"] = db_now(plus_s=then.pause_s)
    changed = await connection.execute(_held([message]).values(**values), {"attempt": dict(attempt)})
    return changed.rowcount == 1


async def let_go(connection: AsyncConnection, messages: Sequence[ClaimedWebhook]) -> None:
    """Leave the messages to other workers at once, and tell these."""
    await connection.execute(_held(messages).values(due_at=db_now()))
    await connection.execute(select(func.pg_notify(CHANNEL, "")))


async def list_of_task(connection: AsyncConnection, task_id: TaskId) -> list[WebhookRow]:
    """The messages about a task, oldest first."""
    query = (
        select(
            Webhook.id,
            Webhook.url,
            Webhook.state,
            Webhook.created_at,
            Webhook.due_at,
            Webhook.tries,
            Webhook.attempts,
        )
        .where(Webhook.task_id == task_id)
        .order_by(Webhook.id)
    )
    rows = (await connection.execute(query)).mappings()
    return [WebhookRow(**{**row, "state": WebhookState(row["state"])}) for row in rows]


def _held(messages: Sequence[ClaimedWebhook]) -> Update:
    """An UPDATE of those of the messages that are still held as when they were taken."""
    tokens = [(message.id, message.held_until) for message in messages]
    return update(Webhook).where(
        Webhook.state == WebhookState.WAITING, tuple_(Webhook.id, Webhook.due_at).in_(tokens)
    )
