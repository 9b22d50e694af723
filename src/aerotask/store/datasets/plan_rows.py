"""Entries with no more than is needed to send or plan with them: a dataset may have a great many."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, any_, bindparam, func, null, or_, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.db.models import Entry, PathText
from aerotask.domain.ids import DatasetId
from aerotask.store.datasets.entries import STREAM_ROWS, outermost, within


@dataclass(frozen=True, slots=True)
class EntrySummary:
    """An entry without what the index found out about its content."""

    path: str
    type: str
    blob_key: str | None
    size_bytes: int
    modified_at: datetime


@dataclass(frozen=True, slots=True)
class EntryForPlan:
    """An entry as a tool's plan needs it; with some of its properties, the geometries are left out."""

    path: str
    type: str
    sha256: str
    blob_key: str | None
    size_bytes: int
    modified_at: datetime
    indexed: bool
    properties: dict[str, Any] | None
    point_geom: dict[str, Any] | None
    polygon_geom: dict[str, Any] | None


_OUTLINE = (Entry.path, Entry.type, Entry.blob_key, Entry.size_bytes, Entry.modified_at)
_PLAIN = (
    Entry.path,
    Entry.type,
    Entry.sha256,
    Entry.blob_key,
    Entry.size_bytes,
    Entry.modified_at,
    Entry.indexed,
)


async def stream_within(
    connection: AsyncConnection, dataset_id: DatasetId, named: Sequence[str]
) -> AsyncIterator[EntrySummary]:
    """The entries at or below any of the named paths (`""` is the root), by path; needs a transaction."""
    query = (
        select(*_OUTLINE)
        .where(Entry.dataset_id == dataset_id, or_(*(within(path) for path in outermost(named))))
        .order_by(Entry.path)
        .execution_options(yield_per=STREAM_ROWS)
    )
    async for row in await connection.stream(query):
        yield EntrySummary(*row)


async def plan_rows_at(
    connection: AsyncConnection, dataset_id: DatasetId, named: Sequence[str], properties: Iterable[str] | None
) -> list[EntryForPlan]:
    """The entries at the named paths, with these of their properties; None: with all there is to know."""
    query = select(*_PLAIN, *_known(properties)).where(
        Entry.dataset_id == bindparam("dataset_id", type_=Entry.dataset_id.type),
        Entry.path == any_(bindparam("paths", type_=ARRAY(PathText))),
    )
    found = await connection.execute(query, {"dataset_id": dataset_id, "paths": list(named)})
    return [EntryForPlan(*row) for row in found]


async def plan_rows_within(
    connection: AsyncConnection, dataset_id: DatasetId, named: Sequence[str], properties: Iterable[str] | None
) -> AsyncIterator[list[EntryForPlan]]:
    """As `stream_within`, a batch at a time; needs a transaction."""
    query = (
        select(*_PLAIN, *_known(properties))
        .where(Entry.dataset_id == dataset_id, or_(*(within(path) for path in outermost(named))))
        .execution_options(yield_per=STREAM_ROWS)
    )
    async for batch in (await connection.stream(query)).partitions():
        yield [EntryForPlan(*row) for row in batch]


def _known(properties: Iterable[str] | None) -> tuple[ColumnElement[Any], ...]:
    if properties is None:
        return Entry.properties.expression, Entry.point_geom.expression, Entry.polygon_geom.expression
    pairs = [part for name in sorted(properties) for part in (name, Entry.properties[name])]
    # Without those that the entry lacks.
    some = func.jsonb_strip_nulls(func.jsonb_build_object(*pairs), type_=Entry.properties.type)
    return some if pairs else null(), null(), null()
