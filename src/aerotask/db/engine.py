"""The one way to Postgres: connections, and transactions that say whether they write."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import orjson
from sqlalchemy import Row, Select, event
from sqlalchemy.engine import make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

FROZEN_S = 15
"""A transaction in which nothing is done for so long is broken off by Postgres."""
STATEMENT_S = 60
"""A statement that takes longer, or whose sender froze halfway through sending it, is broken off."""
LOCK_S = 30
"""A statement that waits longer for a lock is broken off, and may be tried again."""
SILENCE_S = STATEMENT_S + 10
"""Postgres, which answers within `STATEMENT_S`, is out of reach if it hasn't by then."""

AnyRow: TypeAlias = Row[*tuple[Any, ...]]
"""A row whose columns are named by the query that made it."""
AnySelect: TypeAlias = Select[*tuple[Any, ...]]
"""A query that the function beside it turns into values."""


class PostgresAway(ConnectionError):
    """Postgres can't be connected to."""


@dataclass(frozen=True, slots=True)
class Database:
    """Two pools of connections; every statement runs at READ COMMITTED.

    `synchronous_commit` is on but for transactions that say otherwise (`durability`).

    A connection that Postgres has dropped meanwhile shows itself by an error (`outages.is_outage`), which
    empties the pool, rather than by a question before every use.
    """

    engine: AsyncEngine
    reader: AsyncEngine

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that commits when the block ends well, and before the block's caller goes on.

        Raises:
            PostgresAway: there is no connection to be had.
        """
        async with _entered(self.engine.begin()) as connection:
            yield connection

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection for single reads, each a statement of its own.

        Raises:
            PostgresAway: there is no connection to be had.
        """
        async with _entered(self.reader.connect()) as connection:
            yield connection

    async def close(self) -> None:
        """Close every connection."""
        await self.engine.dispose()
        await self.reader.dispose()


@asynccontextmanager
async def _entered(opening: AbstractAsyncContextManager[AsyncConnection]) -> AsyncIterator[AsyncConnection]:
    """What is opened; a socket that fails then says nothing of the files that the block may use."""
    async with AsyncExitStack() as stack:
        try:
            connection = await stack.enter_async_context(opening)
        except OSError as error:
            raise PostgresAway(f"Postgres: {error}") from error
        yield connection


def open_database(url: str, *, application: str, pool_size: int = 10) -> Database:
    """A database behind `url`, whose connections call themselves `application`. Connects on first use."""
    options: dict[str, Any] = {
        # Errors are logged and must not carry what was being written: password hashes, bodies, names.
        "hide_parameters": True,
        "pool_size": pool_size,
        # An overflow would be opened and closed again for single statements, at a process of Postgres each.
        "max_overflow": 0,
        "pool_timeout": 5,
        "json_serializer": lambda value: orjson.dumps(value).decode(),
        "json_deserializer": orjson.loads,
        "connect_args": connect_args(application),
    }
    # Single reads need no transaction and so nothing to roll back: one round trip instead of three.
    reading = {**options, "isolation_level": "AUTOCOMMIT", "pool_reset_on_return": None}
    target = driver_url(url)
    engine = create_async_engine(target, **options)
    event.listen(engine.sync_engine, "connect", _limit_transactions)
    return Database(engine, create_async_engine(target, **reading))


# A process that freezes after it has had a statement parsed, and before it has it run, counts neither as
# idle nor as slow; from version 17 on Postgres breaks it off all the same.
_LIMIT = (
    f"SELECT set_config('transaction_timeout', '{STATEMENT_S}s', false) "
    "WHERE current_setting('server_version_num')::int >= 170000"
)


def _limit_transactions(connection: DBAPIConnection, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute(_LIMIT)
    cursor.close()
    connection.commit()


def driver_url(url: str) -> str:
    """`url` for SQLAlchemy with asyncpg, whatever driver it names."""
    return make_url(url).set(drivername="postgresql+asyncpg").render_as_string(hide_password=False)


def connect_args(application: str) -> dict[str, Any]:
    """What each connection is opened with, shared by the pool and a worker's own connection."""
    return {
        "timeout": 5,
        "command_timeout": SILENCE_S,
        "server_settings": {
            "application_name": application,
            "jit": "off",
            "timezone": "UTC",
            # A process that freezes in mid-transaction holds locks that everybody needs; not for longer.
            "idle_in_transaction_session_timeout": f"{FROZEN_S}s",
            # Between preparing and executing, Postgres doesn't count it as idle.
            "statement_timeout": f"{STATEMENT_S}s",
            "lock_timeout": f"{LOCK_S}s",
            # What has been answered must outlast a crash, whatever the server's or the database's default is.
            "synchronous_commit": "on",
        },
    }
