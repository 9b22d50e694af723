"""Connections and transactions of Postgres."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import orjson
from sqlalchemy import Row, Select, event
from sqlalchemy.engine import make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

IDLE_TIMEOUT_S = 15
"""Postgres aborts a transaction that is idle for longer."""
STATEMENT_TIMEOUT_S = 60
"""Postgres aborts a statement that takes longer, also one whose client froze while sending it."""
SHORT_TIMEOUT_S = 10
"""Postgres aborts a short transaction (`Database.begin_short`) after this time, whatever its client does."""
SHORT_CONNECTIONS = 6
QUERY_CANCELED = "57014"
"""SQLSTATE of a statement that timed out."""
LOCK_TIMEOUT_S = 30
"""Postgres aborts a statement that waits longer for a lock; it may be retried."""
COMMAND_TIMEOUT_S = STATEMENT_TIMEOUT_S + 10
"""The client treats Postgres as unavailable after this; Postgres itself answers within `STATEMENT_TIMEOUT_S`."""

AnyRow: TypeAlias = Row[*tuple[Any, ...]]
"""A row with the columns of the query that produced it."""
AnySelect: TypeAlias = Select[*tuple[Any, ...]]
"""A query of any columns."""


class PostgresAway(ConnectionError):
    """No connection to Postgres is available."""


@dataclass(frozen=True, slots=True)
class Database:
    """Three connection pools; every statement runs at READ COMMITTED.

    `synchronous_commit` is on unless a transaction turns it off (`async_commit`).

    There is no check before each use of a connection: a dropped one raises an error (`outages.is_outage`), which
    empties the pool.
    """

    engine: AsyncEngine
    short: AsyncEngine
    reader: AsyncEngine

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that commits at the end of the block and rolls back on an error.

        Raises:
            PostgresAway: no connection is available.
        """
        async with _entered(self.engine.begin()) as connection:
            yield connection

    @asynccontextmanager
    async def begin_short(self) -> AsyncIterator[AsyncConnection]:
        """A transaction of milliseconds whose locks other processes wait for, as `begin`.

        Postgres aborts it after `SHORT_TIMEOUT_S`, otherwise a frozen process would hold up the others for longer.

        Raises:
            PostgresAway: no connection is available, or the transaction took too long.
        """
        try:
            async with _entered(self.short.begin()) as connection:
                yield connection
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) == QUERY_CANCELED:
                raise PostgresAway(f"Postgres took longer than {SHORT_TIMEOUT_S} s.") from error
            raise

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection in autocommit mode, for single reads.

        Raises:
            PostgresAway: no connection is available.
        """
        async with _entered(self.reader.connect()) as connection:
            yield connection

    async def close(self) -> None:
        """Closes every connection."""
        await self.engine.dispose()
        await self.short.dispose()
        await self.reader.dispose()


@asynccontextmanager
async def _entered(opening: AbstractAsyncContextManager[AsyncConnection]) -> AsyncIterator[AsyncConnection]:
    """The connection, with errors of its socket kept apart from those of files that the block uses."""
    async with AsyncExitStack() as stack:
        try:
            connection = await stack.enter_async_context(opening)
        except OSError as error:
            raise PostgresAway(f"Postgres: {error}") from error
        yield connection


def open_database(url: str, *, application: str, pool_size: int = 10) -> Database:
    """The database at `url`, which connects on first use; `application` is its name in `pg_stat_activity`."""
    options: dict[str, Any] = {
        # Errors are logged and must not contain parameters: password hashes, bodies, names.
        "hide_parameters": True,
        "pool_size": pool_size,
        # Overflow connections would be opened and closed for single statements, each starting a Postgres process.
        "max_overflow": 0,
        "pool_timeout": 5,
        "json_serializer": lambda value: orjson.dumps(value).decode(),
        "json_deserializer": orjson.loads,
        "connect_args": connect_args(application),
    }
    short = {**options, "pool_size": SHORT_CONNECTIONS, "connect_args": connect_args(application, short=True)}
    # Single reads need no transaction and no rollback: one round trip instead of three.
    reading = {**options, "isolation_level": "AUTOCOMMIT", "pool_reset_on_return": None}
    target = driver_url(url)
    return Database(
        _limited(create_async_engine(target, **options), STATEMENT_TIMEOUT_S),
        _limited(create_async_engine(target, **short), SHORT_TIMEOUT_S),
        create_async_engine(target, **reading),
    )


def _limited(engine: AsyncEngine, timeout_s: int) -> AsyncEngine:
    """The engine with a limit on the total time of each transaction, where Postgres has one (from version 17 on)."""
    limit = (
        f"SELECT set_config('transaction_timeout', '{timeout_s}s', false) "
        "WHERE current_setting('server_version_num')::int >= 170000"
    )

    def set_limit(connection: DBAPIConnection, _record: object) -> None:
        cursor = connection.cursor()
        cursor.execute(limit)
        cursor.close()
        connection.commit()

    event.listen(engine.sync_engine, "connect", set_limit)
    return engine


def driver_url(url: str) -> str:
    """The URL with asyncpg as its driver."""
    return make_url(url).set(drivername="postgresql+asyncpg").render_as_string(hide_password=False)


def connect_args(application: str, *, short: bool = False) -> dict[str, Any]:
    """Connection arguments, shared by the pools and the listening connections."""
    idle_s, statement_s = (
        (SHORT_TIMEOUT_S, SHORT_TIMEOUT_S) if short else (IDLE_TIMEOUT_S, STATEMENT_TIMEOUT_S)
    )
    return {
        "timeout": 5,
        "command_timeout": COMMAND_TIMEOUT_S,
        "server_settings": {
            "application_name": application,
            "jit": "off",
            "timezone": "UTC",
            # A client that freezes within a transaction holds locks that others need.
            "idle_in_transaction_session_timeout": f"{idle_s}s",
            # Between parsing and executing, a client does not count as idle.
            "statement_timeout": f"{statement_s}s",
            "lock_timeout": f"{LOCK_TIMEOUT_S}s",
            # Acknowledged writes must survive a crash, whatever the server's or the database's default is.
            "synchronous_commit": "on",
        },
    }
