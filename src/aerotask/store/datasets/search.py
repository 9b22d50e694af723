"""Search for entries: every query is bounded and reads one dataset's part of an index."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Double, and_, any_, case, cast, func, or_, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.db.models import Entry, PathText
from aerotask.domain.globs import Glob
from aerotask.domain.ids import DatasetId
from aerotask.store.datasets.entries import EntryRow, find_where, within


@dataclass(frozen=True, slots=True)
class BoundingBox:
    """An area of EPSG:4326 in degrees; with `west` above `east` it crosses the antimeridian."""

    west: float
    south: float
    east: float
    north: float


@dataclass(frozen=True, slots=True)
class EntryFilter:
    """Criteria for entries; None matches all."""

    text: str | None = None
    """Substring of the path, ignoring case."""
    glob: Glob | None = None
    folder: str = ""
    types: tuple[str, ...] | None = None
    box: BoundingBox | None = None
    """Area that contains the entry's point."""


async def find_matching(
    connection: AsyncConnection, dataset_id: DatasetId, entry_filter: EntryFilter, *, skip: int, take: int
) -> list[EntryRow]:
    """The entries that match the filter, by path."""
    # Matching paths are found in the index alone; only the rows of the page are fetched.
    matching = (
        select(Entry.path)
        .where(Entry.dataset_id == dataset_id, *_conditions(entry_filter))
        .order_by(Entry.path)
        .offset(skip)
        .limit(take)
    )
    in_page = Entry.path == any_(func.array(matching.scalar_subquery(), type_=ARRAY(PathText)))
    return await find_where(connection, dataset_id, in_page)


def _conditions(entry_filter: EntryFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if entry_filter.folder:
        conditions += [within(entry_filter.folder), Entry.path != entry_filter.folder]
    if entry_filter.types is not None:
        conditions.append(Entry.type.in_(entry_filter.types))
    if entry_filter.glob is not None:
        conditions += _like(entry_filter.glob)
    if entry_filter.text is not None:
        # The column's collation is by bytes; only the database's own collation knows letter case.
        conditions.append(Entry.path.collate("default").icontains(entry_filter.text, autoescape=True))
    if entry_filter.box is not None:
        conditions.append(_within_box(entry_filter.box))
    return conditions


def _like(glob: Glob) -> list[ColumnElement[bool]]:
    matches = Entry.path.regexp_match(glob.regex)
    if not glob.prefix:
        return [matches]
    # The pattern's literal prefix, as a range that the index on (dataset, path) serves.
    return [Entry.path >= glob.prefix, Entry.path < _after(glob.prefix), matches]


def _after(prefix: str) -> str:
    """The upper bound in byte order of texts that start with `prefix`; skips surrogates, which can't be stored."""
    last = ord(prefix[-1])
    if last == 0x10FFFF:
        return prefix + "\U0010ffff" * 4
    return prefix[:-1] + chr(0xE000 if last == 0xD7FF else last + 1)


def _within_box(box: BoundingBox) -> ColumnElement[bool]:
    longitude, latitude = _coordinate(0), _coordinate(1)
    if box.west <= box.east:
        in_longitudes = and_(longitude >= box.west, longitude <= box.east)
    else:
        in_longitudes = or_(longitude >= box.west, longitude <= box.east)
    return and_(Entry.point_geom.is_not(None), in_longitudes, latitude >= box.south, latitude <= box.north)


def _coordinate(number: int) -> ColumnElement[float | None]:
    """A coordinate of the entry's point; null where it is no number, which would make the whole search fail."""
    value = Entry.point_geom["coordinates"][number]
    return case((func.jsonb_typeof(value) == "number", cast(value.astext, Double)))
