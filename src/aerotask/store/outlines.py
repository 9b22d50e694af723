"""Entries with no more than is needed to send or weigh them: a dataset may have a great many."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.domain.ids import DatasetId
from aerotask.store.entries import STREAM_ROWS, outermost, within
from aerotask.store.models import Entry


@dataclass(frozen=True, slots=True)
class OutlineRow:
    """An entry without what the index found out about its content."""

    path: str
    type: str
    blob_key: str | None
    size_bytes: int
    modified_at: datetime


_COLUMNS = (Entry.path, Entry.type, Entry.blob_key, Entry.size_bytes, Entry.modified_at)


async def stream_within(
    connection: AsyncConnection, dataset_id: DatasetId, named: Sequence[str]
) -> AsyncIterator[OutlineRow]:
    """The entries at or below any of the named paths (`""` is the root), by path; needs a transaction."""
    query = (
        select(*_COLUMNS)
        .where(Entry.dataset_id == dataset_id, or_(*(within(path) for path in outermost(named))))
        .order_by(Entry.path)
        .execution_options(yield_per=STREAM_ROWS)
    )
    async for row in await connection.stream(query):
        yield OutlineRow(*row)
