"""Asynchronous commits: locks are released before the WAL is flushed, and `flush_wal` waits for durability.

Other transactions see such a commit at once, but a crash of Postgres may lose it: don't acknowledge it to a client
before `flush_wal`. In return, many commits that a lock serialises share one flush.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, func, literal_column, select
from sqlalchemy.ext.asyncio import AsyncConnection

# For the current transaction.
ASYNC_COMMIT: ColumnElement[str] = func.set_config("synchronous_commit", "off", literal_column("true"))
_ASYNC_COMMIT = select(ASYNC_COMMIT)
# Postgres has no function that only flushes; this commits an empty message behind everything written before.
_FLUSH = select(func.pg_logical_emit_message(literal_column("true"), "aerotask", ""))


async def commit_async(connection: AsyncConnection) -> None:
    """Makes this transaction commit without waiting for the flush of the WAL."""
    await connection.execute(_ASYNC_COMMIT)


async def flush_wal(connection: AsyncConnection) -> None:
    """Waits until every earlier commit is as durable as `synchronous_commit` demands.

    The connection must be in autocommit mode (`Database.read`).
    """
    await connection.execute(_FLUSH)
