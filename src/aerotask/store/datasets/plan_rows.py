"""Slim projections of entries for planning and streaming: a dataset may have 100,000 of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, any_, bindparam, func, null, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.db.models import Entry, PathText
from aerotask.domain.ids import DatasetId
from aerotask.store.datasets.entries import Projection


@dataclass(frozen=True, slots=True)
class EntrySummary:
    """An entry without the metadata of its content."""

    path: str
    type: str
    blob_key: str | None
    size_bytes: int
    sha256: str
    modified_at: datetime


@dataclass(frozen=True, slots=True)
class EntryForPlan:
    """An entry as a tool's plan needs it; geometries are left out if only some properties are loaded."""

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


ENTRY_SUMMARY = Projection(
    EntrySummary,
    (Entry.path, Entry.type, Entry.blob_key, Entry.size_bytes, Entry.sha256, Entry.modified_at),
)
_PLAN_COLUMNS = (
    Entry.path,
    Entry.type,
    Entry.sha256,
    Entry.blob_key,
    Entry.size_bytes,
    Entry.modified_at,
    Entry.indexed,
)


def entry_for_plan(properties: Iterable[str] | None) -> Projection[EntryForPlan]:
    """The projection with these properties; None loads all properties and the geometries."""
    return Projection(EntryForPlan, (*_PLAN_COLUMNS, *_metadata_columns(properties)))


async def find_plan_rows(
    connection: AsyncConnection,
    dataset_id: DatasetId,
    named_paths: Sequence[str],
    projection: Projection[EntryForPlan],
) -> list[EntryForPlan]:
    """The entries at the paths, without those below them."""
    query = select(*projection.columns).where(
        Entry.dataset_id == bindparam("dataset_id", type_=Entry.dataset_id.type),
        Entry.path == any_(bindparam("paths", type_=ARRAY(PathText))),
    )
    rows = await connection.execute(query, {"dataset_id": dataset_id, "paths": list(named_paths)})
    return [EntryForPlan(*row) for row in rows]


def _metadata_columns(properties: Iterable[str] | None) -> tuple[ColumnElement[Any], ...]:
    if properties is None:
        return Entry.properties.expression, Entry.point_geom.expression, Entry.polygon_geom.expression
    pairs = [part for name in sorted(properties) for part in (name, Entry.properties[name])]
    # Properties that the entry lacks would be null.
    some = func.jsonb_strip_nulls(func.jsonb_build_object(*pairs), type_=Entry.properties.type)
    return some if pairs else null(), null(), null()
