"""Reports of a run, also during an outage of Postgres."""

import asyncio

import pytest
from sqlalchemy import event
from tests.support.rows import add_dataset, add_user
from tests.support.world import eventually

from aerotask.db.engine import Database, open_database
from aerotask.domain.ids import LeaseToken, TaskId, new_id
from aerotask.domain.settings import LogLimits
from aerotask.store.queue import logs
from aerotask.store.queue.leases import Lease
from aerotask.worker.reporter import Reporter

NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"


def reporter(db: Database, lease: Lease | None = None, *, lines: int = 1000, total_bytes: int) -> Reporter:
    lease = lease or Lease(TaskId(new_id()), LeaseToken(new_id()), 1)
    return Reporter(db, lease, next_line=0, log_limits=LogLimits(lines, total_bytes), interval_s=0.01)


async def test_buffered_lines_are_bounded_by_bytes() -> None:
    talker = reporter(open_database(NOWHERE, application="tests"), total_bytes=100)
    for n in range(1000):
        talker.log(f"{n:09}ü")
    waiting = talker.pending()
    assert waiting.first == 991
    assert sum(len(line.encode()) for line in waiting.lines) == 99
    assert waiting.lines[-1] == "000000999ü"


async def test_buffered_lines_are_bounded_while_postgres_is_away() -> None:
    away = open_database(NOWHERE, application="tests")
    talker = reporter(away, lines=50, total_bytes=10_000)
    running = asyncio.create_task(talker.run(asyncio.Event()))
    try:
        for n in range(5000):
            talker.log(f"line {n}")
            if n % 1000 == 0:
                await asyncio.sleep(0)
        waiting = talker.pending()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await away.close()
    assert (waiting.first, len(waiting.lines)) == (4950, 50)


@pytest.mark.parametrize("total_bytes", [50, 100_000])
async def test_buffered_lines_are_written_with_their_numbers(database: Database, total_bytes: int) -> None:
    rows = await add_dataset(database, await add_user(database, "owner"), "acme")
    await rows.task()
    lease = (await rows.claimed()).lease
    talker = reporter(database, lease, total_bytes=total_bytes)
    for n in range(100):
        talker.log(f"line {n:03}")
    running = asyncio.create_task(talker.run(asyncio.Event()))
    await asyncio.to_thread(eventually, lambda: not talker._lines)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    async with database.read() as connection:
        page = await logs.read(connection, lease.task_id, since=0, take=1000)
    dropped = 0 if total_bytes == 100_000 else 94
    assert (page.dropped, page.cursor) == (dropped, 100)
    assert page.lines == tuple(f"line {n:03}" for n in range(dropped, 100))


async def test_a_short_run_writes_no_report_before_its_end(database: Database) -> None:
    rows = await add_dataset(database, await add_user(database, "owner"), "acme")
    await rows.task()
    lease = (await rows.claimed()).lease
    used: list[object] = []
    event.listen(database.engine.sync_engine, "checkout", lambda *connection: used.append(connection))
    talker = reporter(database, lease, total_bytes=1000)
    running = asyncio.create_task(talker.run(asyncio.Event()))
    talker.log("Attempt 1.")
    for _ in range(10):
        await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert talker.pending().lines == ("Attempt 1.",)
    assert used == []
