"""Advisory locks, in the order in which they may be taken; each is released with its transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
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

KEEPALIVE_S = 5.0

T = TypeVar("T")


class LockSpace(IntEnum):
    """First half of a two-part advisory key. A transaction must take locks in this order to avoid deadlocks."""

    WORKER = 0x41450001
    """Held by a worker's session while the worker lives; the second half is its number."""
    IDEMPOTENCY = 0x41450009
    """Submits with the same idempotency key, by the first bytes of its digest."""
    DEDUP = 0x41450002
    """Submits of duplicate tasks, by the first bytes of their deduplication key."""
    CLAIM = 0x41450004
    """Claiming the next task."""
    SWEEP = 0x41450005
    """Maintenance, one job of each kind at a time across all workers."""
    STORAGE = 0x41450008
    """Adding bytes to an organization, or to all of one owner, by the last bytes of the id; the lower key first."""
    ENTRIES = 0x41450006
    """Changes to the tree of a dataset's entries, by the last bytes of its id."""
    BLOBS = 0x41450007
    """Shared: adding a reference to a stored blob. Exclusive: checking that a blob has none."""
    QUOTA = 0x41450003
    """Counting active tasks before this transaction's new task commits. All submits need it, so it comes last."""


_KEY = (bindparam("space", type_=Integer), bindparam("key", type_=Integer))
_TAKE = select(func.pg_advisory_xact_lock(*_KEY))
_TAKE_SHARED = select(func.pg_advisory_xact_lock_shared(*_KEY))
_TRY_TAKE = select(func.pg_try_advisory_xact_lock(*_KEY))


async def take(connection: AsyncConnection, space: LockSpace, key: int = 0) -> None:
    """Waits for the lock and holds it until the transaction ends."""
    await connection.execute(_TAKE, {"space": int(space), "key": key})


async def take_shared(connection: AsyncConnection, space: LockSpace, key: int = 0) -> None:
    """Waits for the lock and holds it in shared mode until the transaction ends."""
    await connection.execute(_TAKE_SHARED, {"space": int(space), "key": key})


async def try_take(connection: AsyncConnection, space: LockSpace, key: int = 0) -> bool:
    """Takes the lock until the transaction ends; False if another transaction holds it."""
    taken = await connection.execute(_TRY_TAKE, {"space": int(space), "key": key})
    return bool(taken.scalar_one())


_UNLIMITED = text(
    "SELECT set_config('transaction_timeout', '0', true) WHERE current_setting('server_version_num')::int >= 170000"
)


async def disable_transaction_timeout(connection: AsyncConnection) -> None:
    """Disables the limit on this transaction's total time; each statement still has its timeout."""
    await connection.execute(_UNLIMITED)


async def run_locked(connection: AsyncConnection, work: Callable[[], Awaitable[T]]) -> T:
    """Awaits the work while this transaction holds its locks, however long it takes.

    The transaction is kept from being idle, so that Postgres still aborts it soon if the process freezes.
    """
    await connection.execute(_UNLIMITED)
    running = asyncio.ensure_future(work())
    try:
        while not (await asyncio.wait({running}, timeout=KEEPALIVE_S))[0]:
            await connection.execute(select(1))
        return running.result()
    finally:
        await cancel_and_wait(running)


def key_of(digest: bytes) -> int:
    """Signed 32-bit lock key from a digest's first bytes; a collision only makes two callers wait."""
    return int.from_bytes(digest[:4], "big", signed=True)


_PG_LOCKS = table(
    "pg_locks",
    *map(column, ("locktype", "database", "classid", "objid", "objsubid", "granted")),
)
_PG_DATABASE = table("pg_database", column("oid"), column("datname"))


def live_workers() -> Select[int]:
    """The numbers of the workers whose sessions hold their lock in this database."""
    this_database = select(_PG_DATABASE.c.oid).where(_PG_DATABASE.c.datname == func.current_database())
    return select(cast(_PG_LOCKS.c.objid, BigInteger)).where(
        _PG_LOCKS.c.locktype == "advisory",
        _PG_LOCKS.c.granted,
        _PG_LOCKS.c.objsubid == 2,  # two-part keys
        cast(_PG_LOCKS.c.classid, BigInteger) == int(LockSpace.WORKER),
        _PG_LOCKS.c.database == this_database.scalar_subquery(),
    )
