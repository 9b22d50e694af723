"""Notifications of changed tasks and cancelled attempts."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.support.databases import run_sql
from tests.support.rows import Rows

from aerotask.db.listen import Listener
from aerotask.domain.settings import LogLimits
from aerotask.store.datasets import deletion
from aerotask.store.queue import cancel, leases, retry
from aerotask.store.queue.claims import ClaimedTask
from aerotask.store.queue.leases import Report
from aerotask.store.tasks.tasks import TASK_CHANNEL


@asynccontextmanager
async def listening(
    url: str, channel: str = TASK_CHANNEL
) -> AsyncIterator[tuple[asyncio.Queue[str], asyncio.Queue[None]]]:
    """The channel's payloads, and an item for each time that listening started."""
    payloads: asyncio.Queue[str] = asyncio.Queue()
    started: asyncio.Queue[None] = asyncio.Queue()
    session = Listener(url, application="tests listening", channels={channel: payloads.put_nowait})
    running = asyncio.create_task(session.run(lambda: started.put_nowait(None)))
    try:
        async with asyncio.timeout(30):
            await started.get()
            yield payloads, started
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.fixture
async def task(rows: Rows) -> ClaimedTask:
    await rows.task()
    return await rows.claimed(worker_no=1)


async def test_a_change_is_notified_with_its_commit(rows: Rows, task: ClaimedTask, database_url: str) -> None:
    async with listening(database_url) as (payloads, _):
        async with rows.db.begin() as connection:
            await leases.report(connection, task.lease, Report(0, ("a",)), log_limits=LogLimits(9, 1000))
            await run_sql(database_url, f"NOTIFY {TASK_CHANNEL}, 'before the commit'")
        assert await payloads.get() == "before the commit"
        assert await payloads.get() == str(task.lease.task_id)


async def test_state_progress_and_log_are_notified(rows: Rows, task: ClaimedTask, database_url: str) -> None:
    changes = [Report(0, ("a",)), Report(1, (), 10.0), Report(1, (), 10.0, "phase")]
    async with listening(database_url) as (payloads, _):
        for update in changes:
            async with rows.db.begin() as connection:
                await leases.report(connection, task.lease, update, log_limits=LogLimits(9, 1000))
            assert await payloads.get() == str(task.lease.task_id)
        async with rows.db.begin() as connection:
            await cancel.cancel_or_delete(connection, rows.dataset_id, task.lease.task_id, actor="tests")
        assert await payloads.get() == str(task.lease.task_id)


async def test_a_renewed_lease_is_not_notified(rows: Rows, task: ClaimedTask, database_url: str) -> None:
    async with listening(database_url) as (payloads, _):
        async with rows.db.begin() as connection:
            tokens = [task.lease.token]
            assert await leases.renew(connection, tokens, worker_no=1, ttl_s=99) == set(tokens)
        async with rows.db.begin() as connection:
            await leases.report(connection, task.lease, Report(0), log_limits=LogLimits(9, 1000))
        await run_sql(database_url, f"NOTIFY {TASK_CHANNEL}, 'after all'")
        # Notifications come in the order of the commits.
        assert await payloads.get() == "after all"


async def test_a_lost_session_reconnects(rows: Rows, task: ClaimedTask, database_url: str) -> None:
    async with listening(database_url) as (payloads, started):
        await run_sql(
            database_url,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'tests listening'",
        )
        await started.get()
        async with rows.db.begin() as connection:
            await leases.report(connection, task.lease, Report(0, ("a",)), log_limits=LogLimits(9, 1000))
        assert await payloads.get() == str(task.lease.task_id)


async def test_a_cancelled_attempt_is_notified_to_workers(rows: Rows, database_url: str) -> None:
    await rows.task()
    first = await rows.claimed()
    async with listening(database_url, cancel.CANCEL_CHANNEL) as (payloads, _):
        async with rows.db.begin() as connection:
            await cancel.cancel_or_delete(connection, rows.dataset_id, first.lease.task_id, actor="tests")
        assert await payloads.get() == first.lease.name == f"{first.lease.task_id}:1"
        async with rows.db.begin() as connection:
            await retry.requeue(connection, first.lease.task_id, actor="tests")
        second = await rows.claimed()
        async with rows.db.begin() as connection:
            await deletion.cancel_tasks(connection, deletion.in_dataset(rows.dataset_id), actor="tests")
        assert await payloads.get() == second.lease.name == f"{first.lease.task_id}:2"
