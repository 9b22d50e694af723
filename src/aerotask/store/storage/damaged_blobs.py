"""Queries for blobs that were found damaged."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sqlalchemy import ARRAY, Text, any_, bindparam, delete, exists, func, or_, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.db.models import Artifact, DamagedBlob, Derivative, Entry

_NEEDED = or_(
    exists().where(Entry.blob_key == DamagedBlob.blob_key),
    exists().where(Derivative.blob_key == DamagedBlob.blob_key),
    exists().where(Artifact.blob_key == DamagedBlob.blob_key),
)


async def record(connection: AsyncConnection, reasons: Mapping[str, str]) -> None:
    """Records damaged blobs with the reasons; those that are recorded already stay as they are."""
    rows = [{"blob_key": key, "reason": reason} for key, reason in sorted(reasons.items())]
    if rows:
        await connection.execute(upsert(DamagedBlob).values(rows).on_conflict_do_nothing())


async def forget(connection: AsyncConnection, intact: Collection[str]) -> None:
    """Removes the records of blobs that are intact."""
    statement = delete(DamagedBlob).where(DamagedBlob.blob_key == any_(bindparam("keys", type_=ARRAY(Text))))
    await connection.execute(statement, {"keys": list(intact)})


async def forget_unneeded(connection: AsyncConnection) -> None:
    """Removes the records of blobs that no entry, derivative or artifact has any more."""
    await connection.execute(delete(DamagedBlob).where(~_NEEDED))


async def count(connection: AsyncConnection) -> int:
    """The number of damaged blobs that an entry, a derivative or an artifact has."""
    query = select(func.count()).select_from(DamagedBlob).where(_NEEDED)
    return (await connection.execute(query)).scalar_one()


async def list_keys(connection: AsyncConnection) -> list[str]:
    """The keys of the damaged blobs, in their order."""
    return list(
        (await connection.execute(select(DamagedBlob.blob_key).order_by(DamagedBlob.blob_key))).scalars()
    )
