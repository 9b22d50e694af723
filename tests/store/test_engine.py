import asyncio
import time

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from aerotask.store.engine import FROZEN_S, Database
from aerotask.store.locks import LockSpace, take
from aerotask.store.outages import is_outage


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
