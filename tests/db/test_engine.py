import asyncio
import time

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from tests.support.databases import run_sql

from aerotask.db.engine import FROZEN_S, Database, PostgresAway, open_database
from aerotask.db.locks import LockSpace, take
from aerotask.db.outages import is_outage


async def test_a_process_that_freezes_in_mid_transaction_holds_nobody_up_for_long(database: Database) -> None:
    async def frozen() -> None:
        async with database.begin() as connection:
            await take(connection, LockSpace.CLAIM)
            locked.set()
            await woken.wait()
            await connection.execute(text("SELECT 1"))

    locked, woken = asyncio.Event(), asyncio.Event()
    sleeper = asyncio.create_task(frozen())
    await locked.wait()
    begun = time.monotonic()
    async with asyncio.timeout(FROZEN_S + 15), database.begin() as connection:
        await take(connection, LockSpace.CLAIM)
    assert time.monotonic() - begun >= FROZEN_S - 1
    woken.set()
    with pytest.raises(DBAPIError) as caught:
        await sleeper
    assert is_outage(caught.value)


async def test_a_commit_is_durable_whatever_the_database_is_set_to(
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
async def test_a_postgres_that_cannot_be_connected_to_is_away(url: str) -> None:
    nowhere = open_database(url, application="tests")
    for entering in (nowhere.begin(), nowhere.read()):
        with pytest.raises(PostgresAway) as caught:
            await entering.__aenter__()
        assert is_outage(caught.value)
    await nowhere.close()


async def test_a_statement_that_takes_too_long_would_take_too_long_again(database: Database) -> None:
    async with database.begin() as connection:
        await connection.execute(text("SET LOCAL statement_timeout = '50ms'"))
        with pytest.raises(DBAPIError, match="statement timeout") as caught:
            await connection.execute(text("SELECT pg_sleep(60)"))
    assert not is_outage(caught.value)


async def test_a_lock_that_others_hold_for_too_long_may_be_had_later(database: Database) -> None:
    async with database.begin() as other, database.begin() as connection:
        await take(other, LockSpace.CLAIM)
        await connection.execute(text("SET LOCAL lock_timeout = '50ms'"))
        with pytest.raises(DBAPIError, match="lock timeout") as caught:
            await take(connection, LockSpace.CLAIM)
    assert is_outage(caught.value)


async def test_a_postgres_that_does_not_answer_is_away(database: Database) -> None:
    async with database.begin() as connection:
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver is not None
        with pytest.raises(TimeoutError) as caught:
            await driver.execute("SELECT pg_sleep(60)", timeout=0.05)
    assert is_outage(caught.value)


async def test_a_file_that_is_missing_is_no_outage_of_postgres(database: Database) -> None:
    async def look() -> None:
        async with database.begin():
            raise FileNotFoundError

    with pytest.raises(FileNotFoundError) as caught:
        await look()
    assert not is_outage(caught.value)
    assert not is_outage(OSError(5, "input/output error"))
