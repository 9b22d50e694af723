"""Commits that don't wait for the disk: their locks are free at once, and whoever has to be sure waits afterwards.

Others see such a commit at once, and a crash of Postgres within moments may lose it. So nobody may be told of it
before `flush_wal`; in return many commits share one write to the disk, although their locks let them pass one by one.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, func, literal_column, select
from sqlalchemy.ext.asyncio import AsyncConnection

# Until the transaction ends.
COMMIT_AT_ONCE: ColumnElement[str] = func.set_config("synchronous_commit", "off", literal_column("true"))
_COMMIT_AT_ONCE = select(COMMIT_AT_ONCE)
# No function of Postgres only flushes. This commits an empty message of its own, after all that was written before.
_FLUSH = select(func.pg_logical_emit_message(literal_column("true"), "aerotask", ""))


async def commit_async(connection: AsyncConnection) -> None:
    """Let this transaction commit without waiting for the disk."""
    await connection.execute(_COMMIT_AT_ONCE)


async def flush_wal(connection: AsyncConnection) -> None:
    """Wait until everything that has been committed is where `synchronous_commit` wants it.

    The connection must be one for single reads, on which each statement is a transaction.
    """
    await connection.execute(_FLUSH)
