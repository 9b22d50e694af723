"""Webhooks that the end of a task enqueues."""

import json
from dataclasses import replace
from typing import Any

import pytest
from tests.support.rows import Rows, add_dataset, add_user

from aerotask.db.engine import Database
from aerotask.domain.access import Caller
from aerotask.domain.ids import TaskId
from aerotask.domain.settings import LogLimits
from aerotask.domain.webhooks import NextStep, WebhookState
from aerotask.services.tasks.webhooks import enqueue_webhooks
from aerotask.store.queue import cancel, leases
from aerotask.store.queue.leases import Failure, Report
from aerotask.store.tasks import webhooks
from aerotask.store.tasks.webhooks import WebhookRow
from aerotask.wiring import Platform

URL = "https://hooks.example/?key=1"
RAIN = Failure("bad-weather", "It rained.")


@pytest.fixture
async def rows(platform: Platform) -> Rows:
    return await add_dataset(platform.db, await add_user(platform.db, "owner"), "acme")


def owner(rows: Rows) -> Caller:
    return Caller(user_id=rows.user_id, user_name="owner")


async def fail(rows: Rows, *, actor: str = "worker 1") -> TaskId:
    task = await rows.claimed()
    async with rows.db.begin() as connection:
        await leases.finish(
            connection, task.lease, RAIN, Report(0), log_limits=LogLimits(100, 10_000), actor=actor
        )
        await enqueue_webhooks(connection, [task.lease.task_id])
    return task.lease.task_id


async def owed(db: Database, task_id: TaskId) -> list[WebhookRow]:
    async with db.read() as connection:
        return await webhooks.list_of_task(connection, task_id)


async def body_of_next(db: Database) -> dict[str, Any]:
    async with db.begin() as connection:
        message = await webhooks.claim_next(connection, ttl_s=60, without_users=(), without_hosts=())
    assert message is not None
    return dict(json.loads(message.body))


async def test_the_end_of_a_task_enqueues_its_status(rows: Rows) -> None:
    await rows.task(callback_url=URL)
    [row] = await owed(rows.db, await fail(rows))
    assert (row.url, row.state, row.tries, row.attempts) == (URL, WebhookState.WAITING, 0, [])
    status = await body_of_next(rows.db)
    assert (status["state"], status["error"]["code"]) == ("Failed", "bad-weather")
    assert [event["to"] for event in status["history"]] == ["Created", "Processing", "Failed"]
    assert (status["callbackUrl"], status["callbackCompleted"]) == (URL, False)


async def test_a_task_without_a_callback_url_enqueues_no_webhook(rows: Rows) -> None:
    await rows.task()
    assert await owed(rows.db, await fail(rows)) == []


async def test_no_webhook_is_enqueued_if_the_end_does_not_commit(rows: Rows) -> None:
    task_id = await rows.task(callback_url=URL)
    async with rows.db.engine.connect() as connection:
        await cancel.cancel_or_delete(connection, rows.dataset_id, task_id, actor="owner")
        await enqueue_webhooks(connection, [task_id])
        await connection.rollback()
    assert await owed(rows.db, task_id) == []


async def test_a_second_end_enqueues_a_second_message_and_a_repeated_delete_none(
    rows: Rows, platform: Platform
) -> None:
    await rows.task(callback_url=URL)
    task_id = await fail(rows)
    await body_of_next(rows.db)
    for _ in range(3):
        await platform.tasks.delete(owner(rows), "acme", "acme", task_id)
    assert len(await owed(rows.db, task_id)) == 2
    assert (await body_of_next(rows.db))["state"] == "Deleted"


async def test_a_receiver_that_answered_410_gets_no_further_messages(rows: Rows, platform: Platform) -> None:
    await rows.task(callback_url=URL)
    task_id = await fail(rows)
    async with rows.db.begin() as connection:
        message = await webhooks.claim_next(connection, ttl_s=60, without_users=(), without_hosts=())
        assert message is not None
        await webhooks.record_attempt(connection, message, {}, NextStep(WebhookState.REFUSED))
    await platform.tasks.delete(owner(rows), "acme", "acme", task_id)
    assert [row.state for row in await owed(rows.db, task_id)] == [WebhookState.REFUSED]


async def test_a_task_that_maintenance_fails_enqueues_a_message(rows: Rows, platform: Platform) -> None:
    task_id = await rows.task(callback_url=URL)
    strict = replace(platform.maintenance, queue=replace(platform.maintenance.queue, max_attempts=1))
    await rows.claimed(ttl_s=0)
    await strict.recover_lost()
    assert len(await owed(rows.db, task_id)) == 1
    assert (await body_of_next(rows.db))["error"]["code"] == "worker-lost"


async def test_a_task_that_runs_again_enqueues_no_message(rows: Rows, platform: Platform) -> None:
    task_id = await rows.task(callback_url=URL)
    await rows.claimed(ttl_s=0)
    assert await platform.maintenance.recover_lost() == 1
    assert await owed(rows.db, task_id) == []
