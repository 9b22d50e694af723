import asyncio
from typing import Any

from sqlalchemy import text
from tests.support.rows import Rows, add_user

from aerotask.domain.ids import TaskId, UserId, new_id
from aerotask.domain.webhooks import NextStep, WebhookState
from aerotask.store.tasks import webhooks
from aerotask.store.tasks.webhooks import ClaimedWebhook, WebhookRow

DELIVERED = NextStep(WebhookState.DELIVERED)
AGAIN = NextStep(WebhookState.WAITING, 10)
TRY = {"at": "2026-11-01T00:00:00Z", "status": 500, "error": "The receiver answered 500.", "durationMs": 3}


async def add(rows: Rows, url: str = "http://a.example/", user_id: UserId | None = None) -> TaskId:
    task_id = await rows.task()
    async with rows.db.begin() as connection:
        await webhooks.enqueue(
            connection, task_id=task_id, user_id=user_id or rows.user_id, url=url, body=b"{}"
        )
    return task_id


async def hold(
    rows: Rows, *, ttl_s: float = 30, users: tuple[UserId, ...] = (), hosts: tuple[str, ...] = ()
) -> ClaimedWebhook | None:
    async with rows.db.begin() as connection:
        return await webhooks.claim_next(connection, ttl_s=ttl_s, without_users=users, without_hosts=hosts)


async def held(rows: Rows, **values: Any) -> ClaimedWebhook:
    message = await hold(rows, **values)
    assert message is not None
    return message


async def record(rows: Rows, message: ClaimedWebhook, then: NextStep) -> bool:
    async with rows.db.begin() as connection:
        return await webhooks.record_attempt(connection, message, TRY, then)


async def only(rows: Rows, task_id: TaskId) -> WebhookRow:
    async with rows.db.read() as connection:
        [row] = await webhooks.list_of_task(connection, task_id)
    return row


async def test_a_message_is_claimed_by_one_worker_until_its_claim_expires(rows: Rows) -> None:
    task_id = await add(rows, "HTTPS://Hooks.Example:8443/x?y")
    message = await held(rows)
    assert (message.task_id, message.dataset_id, message.user_id) == (task_id, rows.dataset_id, rows.user_id)
    assert (message.host, message.body, message.tries) == ("hooks.example:8443", b"{}", 0)
    assert await hold(rows) is None


async def test_concurrent_claims_get_each_message_once(rows: Rows) -> None:
    for _ in range(10):
        await add(rows)
    found = await asyncio.gather(*(hold(rows) for _ in range(20)))
    ids = [message.id for message in found if message is not None]
    assert (len(ids), len(set(ids))) == (10, 10)


async def test_a_worker_with_an_expired_claim_changes_nothing(rows: Rows) -> None:
    task_id = await add(rows)
    slow = await held(rows, ttl_s=0)
    quick = await held(rows)
    assert quick.id == slow.id
    assert await record(rows, slow, AGAIN) is False
    assert (await only(rows, task_id)).tries == 0
    assert await record(rows, quick, DELIVERED) is True
    assert (await only(rows, task_id)).state is WebhookState.DELIVERED


async def test_an_attempt_is_recorded_and_the_next_one_is_delayed(rows: Rows) -> None:
    task_id = await add(rows)
    assert await record(rows, await held(rows), AGAIN)
    row = await only(rows, task_id)
    assert (row.state, row.tries, row.attempts) == (WebhookState.WAITING, 1, [TRY])
    assert 9 < (row.due_at - row.created_at).total_seconds() < 30
    assert await hold(rows) is None


async def test_a_delivered_message_is_not_claimed_again(rows: Rows) -> None:
    await add(rows)
    message = await held(rows, ttl_s=0)
    assert await record(rows, message, DELIVERED)
    assert await hold(rows) is None
    assert not await record(rows, message, AGAIN)


async def test_messages_of_excluded_users_and_hosts_are_skipped(rows: Rows) -> None:
    other = await add_user(rows.db, "other")
    await add(rows, "http://a.example/")
    await add(rows, "http://A.example/2", other)
    last = await add(rows, "http://b.example/", other)
    message = await held(rows, users=(rows.user_id,), hosts=("a.example",))
    assert message.task_id == last
    assert await hold(rows, users=(rows.user_id, other)) is None


async def test_released_messages_are_due_at_once(rows: Rows) -> None:
    await add(rows)
    message = await held(rows)
    async with rows.db.begin() as connection:
        await webhooks.release(connection, [message])
    assert (await held(rows)).id == message.id


async def test_the_claim_of_a_message_uses_its_index(rows: Rows) -> None:
    task_id = await rows.task()
    fill = """
        INSERT INTO callbacks (id, task_id, user_id, url, body, due_at)
        SELECT gen_random_uuid(), :task, :owner, 'http://a.example/', '', now() + interval '1 hour'
        FROM generate_series(1, 20000)"""
    async with rows.db.begin() as connection:
        await connection.execute(text(fill), {"task": task_id, "owner": rows.user_id})
        await connection.execute(text("ANALYZE callbacks"))
        compiled = webhooks._DUE.compile(dialect=connection.dialect)
        values = compiled.construct_params({"users": [new_id()], "hosts": ["b.example"]})
        named = tuple(values[name] for name in compiled.positiontup or ())
        plan = "\n".join((await connection.exec_driver_sql(f"EXPLAIN {compiled}", named)).scalars())
    assert "Index Cond: (due_at <= now())" in plan
    assert "Seq Scan" not in plan
