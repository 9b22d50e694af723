"""Queries for blobs that entries and derivatives have let go; triggers record them in the same transaction."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import BigInteger, any_, delete, exists, literal, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.db.clock import tx_now
from aerotask.db.models import ReleasedBlob, UnnamedBlob


async def find_some(connection: AsyncConnection, *, max_count: int) -> dict[int, str]:
    """Some records with the keys of their blobs, the oldest first; a blob may have several."""
    query = select(ReleasedBlob.id, ReleasedBlob.blob_key).order_by(ReleasedBlob.id).limit(max_count)
    return {row.id: row.blob_key for row in await connection.execute(query)}


async def remove(connection: AsyncConnection, records: Collection[int]) -> None:
    """Removes records."""
    ids = any_(literal(list(records), ARRAY(BigInteger)))
    await connection.execute(delete(ReleasedBlob).where(ReleasedBlob.id == ids))


async def remove_settled(connection: AsyncConnection, *, plus_s: float) -> None:
    """Removes records older than now plus (in effect: minus) some seconds whose blobs are named again or gone."""
    unnamed = exists().where(UnnamedBlob.blob_key == ReleasedBlob.blob_key)
    settled = delete(ReleasedBlob).where(ReleasedBlob.released_at < tx_now(plus_s=plus_s), ~unnamed)
    await connection.execute(settled)
