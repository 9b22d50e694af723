"""Queries for blobs that no row names, with the time when this database first saw them so."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Text, any_, delete, func, literal, select
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.db.clock import tx_now
from aerotask.db.models import UnnamedBlob


async def add(connection: AsyncConnection, blob_keys: Collection[str]) -> None:
    """Records blobs as seen now; those that are recorded already keep their time."""
    new = func.unnest(literal(list(blob_keys), ARRAY(Text)))
    statement = insert(UnnamedBlob).from_select(["blob_key"], select(new))
    await connection.execute(statement.on_conflict_do_nothing())


async def forget(connection: AsyncConnection, blob_keys: Collection[str]) -> None:
    """Removes records: of blobs that a row names again, and of removed ones."""
    keys = any_(literal(list(blob_keys), ARRAY(Text)))
    await connection.execute(delete(UnnamedBlob).where(UnnamedBlob.blob_key == keys))


async def count_due(connection: AsyncConnection, *, plus_s: float) -> int:
    """The number of blobs that were first seen before now plus (in effect: minus) some seconds."""
    query = select(func.count()).where(UnnamedBlob.seen_at < tx_now(plus_s=plus_s))
    return int((await connection.execute(query)).scalar_one())


async def find_due(connection: AsyncConnection, *, plus_s: float, max_count: int) -> set[str]:
    """Some of the blobs that `count_due` counts, the longest seen first."""
    query = (
        select(UnnamedBlob.blob_key)
        .where(UnnamedBlob.seen_at < tx_now(plus_s=plus_s))
        .order_by(UnnamedBlob.seen_at)
        .limit(max_count)
    )
    return set((await connection.execute(query)).scalars())
