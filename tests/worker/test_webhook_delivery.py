"""Webhook delivery over a real database, to real receivers."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import text
from tests.support.receiver import running_receiver
from tests.support.rows import Rows, add_dataset, add_user

from aerotask.db.engine import open_database
from aerotask.domain.ids import TaskId, UserId
from aerotask.domain.webhooks import WebhookState
from aerotask.net.guarded_http import GuardedClient, Resolver
from aerotask.store.accounts import users
from aerotask.store.tasks import webhooks
from aerotask.store.tasks.webhooks import WebhookRow
from aerotask.wiring import Platform
from aerotask.worker.webhook_delivery import WebhookDelivery


@pytest.fixture
def resolver() -> Iterator[Resolver]:
    made = Resolver(threads=4)
    yield made
    made.close()


@pytest.fixture
async def rows(platform: Platform) -> Rows:
    return await add_dataset(platform.db, await add_user(platform.db, "owner"), "acme")


@pytest.fixture
def make_delivery(platform: Platform, resolver: Resolver) -> Callable[[], WebhookDelivery]:
    client = GuardedClient(
        timeout_s=60, allow_private=True, tls=ssl.create_default_context(), resolve=resolver
    )
    return lambda: WebhookDelivery(platform.db, platform.access, platform.webhooks, client, poll_s=0.05)


@asynccontextmanager
async def running(delivery: WebhookDelivery) -> AsyncIterator[None]:
    working = asyncio.create_task(delivery.run())
    try:
        yield
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while not await condition():  # noqa: ASYNC110  no event tells what stands in the database
            await asyncio.sleep(0.01)


async def enqueue_one(
    rows: Rows, port: int, *, user_id: UserId | None = None, host: str = "127.0.0.1"
) -> TaskId:
    task_id = await rows.task()
    async with rows.db.begin() as connection:
        await webhooks.enqueue(
            connection,
            task_id=task_id,
            user_id=user_id or rows.user_id,
            url=f"http://{host}:{port}/hook",
            body=b"{}",
        )
    return task_id


async def message_of(rows: Rows, task_id: TaskId) -> WebhookRow:
    async with rows.db.read() as connection:
        [row] = await webhooks.list_of_task(connection, task_id)
    return row


async def reader(rows: Rows, name: str) -> UserId:
    """A user with read access to the dataset."""
    user_id = await add_user(rows.db, name)
    async with rows.db.begin() as connection:
        await users.set_roles(connection, user_id, is_admin=True, is_deactivated=False)
    return user_id


async def test_a_users_hanging_receivers_do_not_delay_another_user(
    rows: Rows, make_delivery: Callable[[], WebhookDelivery]
) -> None:
    other = await reader(rows, "other")
    with running_receiver() as slow, running_receiver() as quick:
        slow.hanging.set()
        for number in range(40):  # names of its own for each, as anybody can have them
            await enqueue_one(rows, slow.port, host=f"127.0.0.{number + 1}" if number % 2 else "127.0.0.1")
        prompt = await enqueue_one(rows, quick.port, user_id=other)

        async def is_delivered() -> bool:
            return (await message_of(rows, prompt)).state is WebhookState.DELIVERED

        async with running(make_delivery()):
            await until(is_delivered)
        assert len(slow.received) <= 4


async def test_a_hanging_host_of_many_users_does_not_delay_another_host(
    rows: Rows, make_delivery: Callable[[], WebhookDelivery]
) -> None:
    with running_receiver() as slow, running_receiver() as quick:
        slow.hanging.set()
        for number in range(10):
            user_id = await reader(rows, f"user-{number}")
            for _ in range(2):
                await enqueue_one(rows, slow.port, user_id=user_id)
        prompt = await enqueue_one(rows, quick.port)

        async def is_delivered() -> bool:
            return (await message_of(rows, prompt)).state is WebhookState.DELIVERED

        async with running(make_delivery()):
            await until(is_delivered)
        assert len(slow.received) <= 4


async def test_unfinished_deliveries_of_a_stopped_worker_are_claimed_at_once_by_another(
    rows: Rows, make_delivery: Callable[[], WebhookDelivery]
) -> None:
    with running_receiver() as receiver:
        receiver.hanging.set()
        task_id = await enqueue_one(rows, receiver.port)

        async def arrived() -> bool:
            return len(receiver.received) == 1

        async with running(make_delivery()):
            await until(arrived)
        assert (await message_of(rows, task_id)).tries == 0
        receiver.hanging.clear()

        async def is_delivered() -> bool:
            return (await message_of(rows, task_id)).state is WebhookState.DELIVERED

        async with running(make_delivery()):
            await until(is_delivered)
        first, second = receiver.received
        assert first.headers["webhook-id"] == second.headers["webhook-id"]
        assert (await message_of(rows, task_id)).tries == 1


async def test_an_owner_without_read_access_is_not_sent_the_status(
    rows: Rows, make_delivery: Callable[[], WebhookDelivery]
) -> None:
    with running_receiver() as receiver:
        task_id = await enqueue_one(rows, receiver.port)
        async with rows.db.begin() as connection:
            await users.set_roles(connection, rows.user_id, is_admin=False, is_deactivated=True)

        async def over() -> bool:
            return (await message_of(rows, task_id)).state is not WebhookState.WAITING

        async with running(make_delivery()):
            await until(over)
        row = await message_of(rows, task_id)
        assert (row.state, receiver.received) == (WebhookState.GIVEN_UP, [])
        assert row.attempts[0]["error"] == "The task's owner may no longer read the dataset."


async def test_a_url_that_is_no_longer_allowed_is_given_up(
    rows: Rows, make_delivery: Callable[[], WebhookDelivery]
) -> None:
    task_id = await enqueue_one(rows, 80, host="user@hooks.example")

    async def over() -> bool:
        return (await message_of(rows, task_id)).state is WebhookState.GIVEN_UP

    async with running(make_delivery()):
        await until(over)
    [attempt] = (await message_of(rows, task_id)).attempts
    assert "user name" in attempt["error"]


async def test_an_outage_of_postgres_delays_messages_and_loses_none(
    rows: Rows, make_delivery: Callable[[], WebhookDelivery], database_url: str
) -> None:
    killer = open_database(database_url, application="killer")
    kill = text("""
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'tests'""")
    with running_receiver() as receiver:
        receiver.hanging.set()
        task_id = await enqueue_one(rows, receiver.port)

        async def arrived() -> bool:
            return len(receiver.received) == 1

        async def is_delivered() -> bool:
            async with killer.read() as connection:
                [row] = await webhooks.list_of_task(connection, task_id)
            return row.state is WebhookState.DELIVERED

        async with running(make_delivery()):
            await until(arrived)
            async with killer.begin() as connection:
                await connection.execute(kill)
            receiver.released.set()
            await until(is_delivered)
        assert len(receiver.received) == 1
    await killer.close()
