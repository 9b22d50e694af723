"""Finding entries: every query is bounded, and reads one dataset's part of an index."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Double, and_, any_, cast, func, or_, select
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
    """What entries must have; None lets everything through."""

    text: str | None = None
    """Somewhere in the path, whatever its case."""
    glob: Glob | None = None
    folder: str = ""
    types: tuple[str, ...] | None = None
    box: BoundingBox | None = None
    """The entry's point lies in it."""


async def find_matching(
    connection: AsyncConnection, dataset_id: DatasetId, wanted: EntryFilter, *, skip: int, take: int
) -> list[EntryRow]:
    """The entries that have all of it, by path."""
    # Which paths match is found in the index alone; only the rows that are answered are fetched.
    matching = (
        select(Entry.path)
        .where(Entry.dataset_id == dataset_id, *_conditions(wanted))
        .order_by(Entry.path)
        .offset(skip)
        .limit(take)
    )
    named = Entry.path == any_(func.array(matching.scalar_subquery(), type_=ARRAY(PathText)))
    return await find_where(connection, dataset_id, named)


def _conditions(wanted: EntryFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.folder:
        conditions += [within(wanted.folder), Entry.path != wanted.folder]
    if wanted.types is not None:
        conditions.append(Entry.type.in_(wanted.types))
    if wanted.glob is not None:
        conditions += _like(wanted.glob)
    if wanted.text is not None:
        # Paths are compared byte by byte elsewhere; letters' cases are known to the database's own collation.
        conditions.append(Entry.path.collate("default").icontains(wanted.text, autoescape=True))
    if wanted.box is not None:
        conditions.append(_placed_in(wanted.box))
    return conditions


def _like(glob: Glob) -> list[ColumnElement[bool]]:
    matches = Entry.path.regexp_match(glob.regex)
    if not glob.prefix:
        return [matches]
    # The literal beginning of the pattern as a range that the index on (dataset, path) serves.
    return [Entry.path >= glob.prefix, Entry.path < _after(glob.prefix), matches]


def _after(prefix: str) -> str:
    """A text after all that begin with `prefix`, in byte order; surrogates can't be stored, so they are passed over."""
    last = ord(prefix[-1])
    if last == 0x10FFFF:
        return prefix + "\U0010ffff" * 4
    return prefix[:-1] + chr(0xE000 if last == 0xD7FF else last + 1)


def _placed_in(box: BoundingBox) -> ColumnElement[bool]:
    longitude = cast(Entry.point_geom["coordinates"][0].astext, Double)
    latitude = cast(Entry.point_geom["coordinates"][1].astext, Double)
    if box.west <= box.east:
        across = and_(longitude >= box.west, longitude <= box.east)
    else:
        across = or_(longitude >= box.west, longitude <= box.east)
    return and_(Entry.point_geom.is_not(None), across, latitude >= box.south, latitude <= box.north)
