"""Queries for checks of the storage that have not reached their end."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.db.models import StorageCheck


@dataclass(frozen=True, slots=True)
class CheckProgress:
    """Progress of a check: the last blob that was checked, and how much was checked by then."""

    after_key: str = ""
    blobs: int = 0
    size_bytes: int = 0
    started_at: datetime | None = None


async def find(connection: AsyncConnection, depth: str) -> CheckProgress:
    """The progress of the unfinished check of that depth; none at all if there is no such check."""
    columns = (StorageCheck.after_key, StorageCheck.blobs, StorageCheck.size_bytes, StorageCheck.started_at)
    row = (await connection.execute(select(*columns).where(StorageCheck.depth == depth))).one_or_none()
    return CheckProgress() if row is None else CheckProgress(*row)


async def save(connection: AsyncConnection, depth: str, progress: CheckProgress) -> None:
    """Saves the progress of a check."""
    values = {
        "after_key": progress.after_key,
        "blobs": progress.blobs,
        "size_bytes": progress.size_bytes,
    }
    statement = upsert(StorageCheck).values(depth=depth, **values)
    await connection.execute(
        statement.on_conflict_do_update(index_elements=[StorageCheck.depth], set_=values)
    )


async def end(connection: AsyncConnection, depth: str) -> None:
    """Removes the saved progress of a check."""
    await connection.execute(delete(StorageCheck).where(StorageCheck.depth == depth))
