"""Queries for the installation's id, and for what the database knows of its storage."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import delete, exists, insert, or_, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.db.models import Artifact, Derivative, Entry, Installation, ReleasedBlob, UnnamedBlob


@dataclass(frozen=True, slots=True)
class InstallationRow:
    """The installation's id, and how many blobs wait for a confirmation of their removal."""

    id: UUID
    held_blobs: int


async def find(connection: AsyncConnection) -> InstallationRow | None:
    """The installation; None before `aerotask migrate` has given it an id."""
    row = (await connection.execute(select(Installation.id, Installation.held_blobs))).first()
    return InstallationRow(row.id, row.held_blobs) if row else None


async def names_blobs(connection: AsyncConnection) -> bool:
    """True if any row names a blob."""
    named = or_(
        exists(select(Entry.blob_key).where(Entry.blob_key.is_not(None))),
        exists(select(Artifact.blob_key)),
        exists(select(Derivative.blob_key)),
    )
    return bool((await connection.execute(select(named))).scalar_one())


async def lock(connection: AsyncConnection) -> None:
    """Lets one transaction at a time decide about the id."""
    await connection.execute(text("LOCK TABLE installation IN EXCLUSIVE MODE"))


async def replace(connection: AsyncConnection, installation_id: UUID) -> None:
    """Sets the id, and forgets all that was known about the blobs of another storage."""
    await connection.execute(delete(Installation))
    await connection.execute(delete(UnnamedBlob))
    await connection.execute(delete(ReleasedBlob))
    await connection.execute(insert(Installation).values(id=installation_id))


async def set_held_blobs(connection: AsyncConnection, count: int) -> None:
    """Sets the number of blobs that wait for a confirmation; nothing is written if it is the same."""
    await connection.execute(
        update(Installation).where(Installation.held_blobs != count).values(held_blobs=count)
    )
