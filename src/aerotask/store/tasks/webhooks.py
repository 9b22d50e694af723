"""Webhook outbox: messages about ended tasks that are to be delivered."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
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
from aerotask.store.json_columns import JsonColumns, is_delivery_attempt

CHANNEL = "aerotask_callbacks"
"""Postgres channel that notifies workers, with the commit, of a message to deliver."""


@dataclass(frozen=True, slots=True)
class ClaimedWebhook:
    """A message claimed by one worker until `claimed_until`, which is also the fencing token."""

    id: UUID
    task_id: TaskId
    dataset_id: DatasetId
    user_id: UserId | None
    url: str
    host: str
    body: bytes
    tries: int
    claimed_until: datetime


@dataclass(frozen=True, slots=True)
class WebhookRow:
    """A message as the task's owner sees it."""

    id: UUID
    url: str
    state: WebhookState
    created_at: datetime
    due_at: datetime
    tries: int
    attempts: list[Any]
    damaged: tuple[str, ...] = ()
    """JSON columns that don't have the form that they were written in, and are empty here."""


# A receiver that has answered 410 (Gone) gets no further messages about that task.
_WITH_WEBHOOK = select(Task.id).where(
    Task.id == any_(bindparam("task_ids", type_=ARRAY(Task.id.type))),
    Task.callback_url.is_not(None),
    ~exists().where(Webhook.task_id == Task.id, Webhook.state == WebhookState.REFUSED),
)


async def with_webhook(connection: AsyncConnection, task_ids: Sequence[TaskId]) -> list[TaskId]:
    """Those of the tasks that have a callback URL whose receiver still takes messages."""
    found = await connection.execute(_WITH_WEBHOOK, {"task_ids": list(task_ids)})
    return [TaskId(task_id) for task_id in found.scalars()]


async def enqueue(
    connection: AsyncConnection, *, task_id: TaskId, user_id: UserId | None, url: str, body: bytes
) -> None:
    """Add a message to the outbox, and notify workers when this transaction commits."""
    columns = {"id": new_id(), "task_id": task_id, "user_id": user_id, "url": url, "body": body}
    await connection.execute(insert(Webhook).values(columns))
    await connection.execute(select(func.pg_notify(CHANNEL, "")))


# The URL has been checked to hold no user name, so the part between `//` and the path is host and port.
_HOST = func.lower(func.substring(Webhook.url, "^[A-Za-z]+://([^/?]+)", type_=Text))
# The state is a literal and the clock is `now()`, otherwise Postgres couldn't use the partial index.
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
_CLAIM = (
    update(Webhook)
    .where(Webhook.id == _DUE.scalar_subquery(), Task.id == Webhook.task_id)
    .values(due_at=func.clock_timestamp() + bindparam("ttl", type_=INTERVAL))
    .returning(
        Webhook.id,
        Webhook.task_id,
        Task.dataset_id,
        Webhook.user_id,
        Webhook.url,
        _HOST.label("host"),
        Webhook.body,
        Webhook.tries,
        Webhook.due_at.label("claimed_until"),
    )
)


async def claim_next(
    connection: AsyncConnection,
    *,
    ttl_s: float,
    without_users: Collection[UserId],
    without_hosts: Collection[str],
) -> ClaimedWebhook | None:
    """Claim the longest due message, of other users and hosts than these, for `ttl_s` seconds.

    Its due time moves to the end of the claim: if the worker dies, it is tried again then.
    """
    params = {
        "ttl": timedelta(seconds=ttl_s),
        "users": list(without_users),
        "hosts": list(without_hosts),
    }
    row = (await connection.execute(_CLAIM, params)).mappings().one_or_none()
    return None if row is None else ClaimedWebhook(**row)


async def record_attempt(
    connection: AsyncConnection, message: ClaimedWebhook, attempt: Mapping[str, Any], next_step: NextStep
) -> bool:
    """Record an attempt and its next step; False if another worker has claimed the message since."""
    values: dict[str, Any] = {
        "state": next_step.state,
        "tries": message.tries + 1,
        "attempts": Webhook.attempts.op("||")(func.jsonb_build_array(bindparam("attempt", type_=JSONB))),
    }
    if next_step.pause_s is not None:
        values["due_at"] = db_now(plus_s=next_step.pause_s)
    changed = await connection.execute(_claimed([message]).values(**values), {"attempt": dict(attempt)})
    return changed.rowcount == 1


async def release(connection: AsyncConnection, messages: Sequence[ClaimedWebhook]) -> None:
    """Release claimed messages to other workers, and notify these."""
    await connection.execute(_claimed(messages).values(due_at=db_now()))
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
    return [_webhook_row(*row) for row in await connection.execute(query)]


def _webhook_row(*values: Any) -> WebhookRow:
    *plain, attempts = values
    checked = JsonColumns()
    readable = checked.items("attempts", attempts, is_delivery_attempt)
    row = WebhookRow(*(*plain, readable, checked.damaged("callbacks", values[0])))
    return replace(row, state=WebhookState(row.state))


def _claimed(messages: Sequence[ClaimedWebhook]) -> Update:
    """An UPDATE of those of the messages whose claim is still valid."""
    tokens = [(message.id, message.claimed_until) for message in messages]
    return update(Webhook).where(
        Webhook.state == WebhookState.WAITING, tuple_(Webhook.id, Webhook.due_at).in_(tokens)
    )
