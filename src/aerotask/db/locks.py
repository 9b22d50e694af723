"""Advisory locks, in the one order in which they may be taken; each is freed with its transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from enum import IntEnum
from typing import TypeVar

from sqlalchemy import (
    BigInteger,
    Integer,
    Select,
    bindparam,
    cast,
    column,
    func,
    select,
    table,
    text,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.aio import cancel_and_wait

SIGN_OF_LIFE_S = 5.0

T = TypeVar("T")


class LockSpace(IntEnum):
    """The first half of a two-part advisory key. A transaction takes locks in this order only."""

    WORKER = 0x41450001
    """Held by a worker's own session for as long as it lives; the second half is its number."""
    IDEMPOTENCY = 0x41450009
    """Submits that came with the same key, by the first bytes of a digest of it."""
    DEDUP = 0x41450002
    """Submits of the same task, by the first bytes of its deduplication key."""
    CLAIM = 0x41450004
    """Choosing the next task to run."""
    SWEEP = 0x41450005
    """One kind of sweep at a time, whatever the number of workers."""
    STORAGE = 0x41450008
    """Adding bytes to an organization, or to all of one owner, by the last bytes of the id; the lower key first."""
    ENTRIES = 0x41450006
    """Changing the tree of one dataset's entries, by the last bytes of its id."""
    BLOBS = 0x41450007
    """Shared: giving a stored blob another name. Alone: finding out that a blob has none."""
    QUOTA = 0x41450003
    """Counting active tasks before the one that this transaction has added commits. All submits share it, so last."""


_KEY = (bindparam("space", type_=Integer), bindparam("key", type_=Integer))
_TAKE = select(func.pg_advisory_xact_lock(*_KEY))
_TAKE_SHARED = select(func.pg_advisory_xact_lock_shared(*_KEY))
_TRY_TAKE = select(func.pg_try_advisory_xact_lock(*_KEY))


async def take(connection: AsyncConnection, space: LockSpace, key: int = 0) -> None:
    """Wait for the lock and hold it until the transaction ends."""
    await connection.execute(_TAKE, {"space": int(space), "key": key})


async def take_shared(connection: AsyncConnection, space: LockSpace, key: int = 0) -> None:
    """Wait for the lock and hold it together with others who share it, until the transaction ends."""
    await connection.execute(_TAKE_SHARED, {"space": int(space), "key": key})


async def try_take(connection: AsyncConnection, space: LockSpace, key: int = 0) -> bool:
    """Take the lock until the transaction ends, unless somebody has it."""
    asked = await connection.execute(_TRY_TAKE, {"space": int(space), "key": key})
    return bool(asked.scalar_one())


_UNLIMITED = text(
    "SELECT set_config('transaction_timeout', '0', true) WHERE current_setting('server_version_num')::int >= 170000"
)


async def disable_idle_timeout(connection: AsyncConnection) -> None:
    """Let this transaction last for as long as its statements are quick enough each."""
    await connection.execute(_UNLIMITED)


async def run_locked(connection: AsyncConnection, work: Awaitable[T]) -> T:
    """Do the work while this transaction holds its locks, however long it takes.

    The transaction shows signs of life, so that Postgres breaks it off soon if the process freezes.
    """
    await connection.execute(_UNLIMITED)
    working = asyncio.ensure_future(work)
    try:
        while not (await asyncio.wait({working}, timeout=SIGN_OF_LIFE_S))[0]:
            await connection.execute(select(1))
        return working.result()
    finally:
        await cancel_and_wait(working)


def key_of(digest: bytes) -> int:
    """A signed 32-bit lock key from a digest's first bytes; a collision only makes two submits wait."""
    return int.from_bytes(digest[:4], "big", signed=True)


_PG_LOCKS = table(
    "pg_locks",
    *map(column, ("locktype", "database", "classid", "objid", "objsubid", "granted")),
)
_PG_DATABASE = table("pg_database", column("oid"), column("datname"))


def live_workers() -> Select[int]:
    """The numbers of the workers whose sessions hold their lock in this database."""
    here = select(_PG_DATABASE.c.oid).where(_PG_DATABASE.c.datname == func.current_database())
    return select(cast(_PG_LOCKS.c.objid, BigInteger)).where(
        _PG_LOCKS.c.locktype == "advisory",
        _PG_LOCKS.c.granted,
        _PG_LOCKS.c.objsubid == 2,  # the two-part form of a key
        cast(_PG_LOCKS.c.classid, BigInteger) == int(LockSpace.WORKER),
        _PG_LOCKS.c.database == here.scalar_subquery(),
    )
