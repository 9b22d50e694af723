"""Lists of entries, a part at a time: each part begins behind the last path of the one before."""

from __future__ import annotations

from sqlalchemy import and_
from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.db.models import Entry
from aerotask.domain.ids import DatasetId
from aerotask.store.datasets.entries import EntryRow, find_where, within


async def list_page(  # noqa: PLR0913  which part of which folder
    connection: AsyncConnection,
    dataset_id: DatasetId,
    folder: str,
    *,
    recursive: bool,
    after: str,
    at_most: int,
) -> list[EntryRow]:
    """The next entries in `folder` (`""` is the root), or anywhere below it, by path, behind the path `after`."""
    here = Entry.parent == folder
    if recursive:
        here = and_(within(folder), Entry.path != folder)
    return await find_where(connection, dataset_id, here, Entry.path > after, at_most=at_most)
