import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeAlias

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection
from tests.support.databases import run_sql

from aerotask.db.engine import IDLE_TIMEOUT_S, SHORT_TIMEOUT_S, Database, PostgresAway, open_database
from aerotask.db.locks import LockSpace, take
from aerotask.db.outages import is_outage

Transaction: TypeAlias = AbstractAsyncContextManager[AsyncConnection]


async def seconds_until_freed(
    database: Database, opening: Transaction, freeze: Callable[[AsyncConnection], Awaitable[None]]
) -> float:
    """Time for which a process that freezes within a transaction keeps its lock; when it wakes, it sees an outage."""

    async def frozen() -> None:
        async with opening as connection:
            await take(connection, LockSpace.CLAIM)
            await freeze(connection)
            locked.set()
            await woken.wait()
            await connection.execute(text("SELECT 1"))

    locked, woken = asyncio.Event(), asyncio.Event()
    sleeper = asyncio.create_task(frozen())
    await locked.wait()
    begun = time.monotonic()
    async with asyncio.timeout(IDLE_TIMEOUT_S + 15), database.begin() as connection:
        await take(connection, LockSpace.CLAIM)
    freed_after_s = time.monotonic() - begun
    woken.set()
    with pytest.raises(DBAPIError) as caught:
        await sleeper
    assert is_outage(caught.value)
    return freed_after_s


async def test_a_process_that_freezes_within_a_transaction_loses_its_locks(database: Database) -> None:
    async def idle(_connection: AsyncConnection) -> None:
        return None

    assert await seconds_until_freed(database, database.begin(), idle) >= IDLE_TIMEOUT_S - 1


async def test_a_process_that_freezes_before_it_executes_a_parsed_statement_loses_its_locks_soon(
    database: Database,
) -> None:
    """Postgres sees it neither as idle nor as waiting for anything."""

    async def parse(connection: AsyncConnection) -> None:
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver is not None
        await driver.prepare("SELECT 1")  # sends no Sync, so Postgres waits for the rest

    freed_after_s = await seconds_until_freed(database, database.begin_short(), parse)
    assert SHORT_TIMEOUT_S - 1 <= freed_after_s <= SHORT_TIMEOUT_S + 10


async def test_a_short_transaction_that_takes_too_long_is_an_outage(database: Database) -> None:
    async def sleep() -> None:
        async with database.begin_short() as connection:
            await connection.execute(text("SET LOCAL statement_timeout = '50ms'"))
            await connection.execute(text("SELECT pg_sleep(60)"))

    with pytest.raises(PostgresAway):
        await sleep()


async def test_a_commit_is_durable_whatever_the_database_default_is(
    database: Database, database_url: str
) -> None:
    async with database.read() as connection:
        name = (await connection.execute(text("SELECT current_database()"))).scalar_one()
    await run_sql(database_url, f'ALTER DATABASE "{name}" SET synchronous_commit = off')
    opened = open_database(database_url, application="tests")
    try:
        async with opened.begin() as connection:
            assert (await connection.execute(text("SHOW synchronous_commit"))).scalar_one() == "on"
    finally:
        await opened.close()


@pytest.mark.parametrize("url", ["postgresql://127.0.0.1:1/x", "postgresql:///x?host=/nowhere"])
async def test_a_failed_connection_is_an_outage(url: str) -> None:
    nowhere = open_database(url, application="tests")
    for entering in (nowhere.begin(), nowhere.read()):
        with pytest.raises(PostgresAway) as caught:
            await entering.__aenter__()
        assert is_outage(caught.value)
    await nowhere.close()


async def test_a_statement_timeout_is_not_an_outage(database: Database) -> None:
    async with database.begin() as connection:
        await connection.execute(text("SET LOCAL statement_timeout = '50ms'"))
        with pytest.raises(DBAPIError, match="statement timeout") as caught:
            await connection.execute(text("SELECT pg_sleep(60)"))
    assert not is_outage(caught.value)


async def test_a_lock_timeout_is_an_outage(database: Database) -> None:
    async with database.begin() as other, database.begin() as connection:
        await take(other, LockSpace.CLAIM)
        await connection.execute(text("SET LOCAL lock_timeout = '50ms'"))
        with pytest.raises(DBAPIError, match="lock timeout") as caught:
            await take(connection, LockSpace.CLAIM)
    assert is_outage(caught.value)


async def test_a_driver_timeout_is_an_outage(database: Database) -> None:
    async with database.begin() as connection:
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver is not None
        with pytest.raises(TimeoutError) as caught:
            await driver.execute("SELECT pg_sleep(60)", timeout=0.05)
    assert is_outage(caught.value)


async def test_a_missing_file_is_not_an_outage(database: Database) -> None:
    async def open_missing() -> None:
        async with database.begin():
            raise FileNotFoundError

    with pytest.raises(FileNotFoundError) as caught:
        await open_missing()
    assert not is_outage(caught.value)
    assert not is_outage(OSError(5, "input/output error"))
