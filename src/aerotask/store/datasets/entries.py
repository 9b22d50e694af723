"""Queries for the entries of a dataset."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    and_,
    any_,
    bindparam,
    func,
    literal,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import InstrumentedAttribute

from aerotask.db.models import Entry, PathText
from aerotask.domain import paths
from aerotask.domain.ids import DatasetId, EntryId
from aerotask.store.json_columns import JsonColumns

FOLDER = "directory"
STREAM_ROWS = 500


Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class EntryRow:
    """An entry as clients see it, and the key of the blob that holds its content."""

    id: EntryId
    path: str
    type: str
    sha256: str
    blob_key: str | None
    size_bytes: int
    modified_at: datetime
    depth: int
    properties: dict[str, Any]
    point_geom: dict[str, Any] | None
    polygon_geom: dict[str, Any] | None
    indexed: bool
    damaged: tuple[str, ...] = ()
    """JSON columns that don't have the form that they were written in, and are empty here."""


def entry_row(*values: Any) -> EntryRow:
    """An entry from the values of `COLUMNS`."""
    *plain, properties, point_geom, polygon_geom, indexed = values
    checked = JsonColumns()
    metadata = (
        checked.mapping("properties", properties),
        checked.optional_mapping("point_geom", point_geom),
        checked.optional_mapping("polygon_geom", polygon_geom),
    )
    return EntryRow(*(*plain, *metadata, indexed, checked.damaged("entries", values[0])))


@dataclass(frozen=True, slots=True)
class EntryContent:
    """Stored content for an entry."""

    blob_key: str
    sha256: str
    size_bytes: int
    type: str
    mtime: int | None = None
    """Time of the last change in Unix seconds; None: now."""


COLUMNS = (
    Entry.id,
    Entry.path,
    Entry.type,
    Entry.sha256,
    Entry.blob_key,
    Entry.size_bytes,
    Entry.modified_at,
    Entry.depth,
    Entry.properties,
    Entry.point_geom,
    Entry.polygon_geom,
    Entry.indexed,
)


@dataclass(frozen=True, slots=True)
class Projection(Generic[Row]):
    """Columns of an entry and the row type that is made of them."""

    row_type: Callable[..., Row]
    columns: tuple[ColumnElement[Any] | InstrumentedAttribute[Any], ...]


WHOLE_ENTRY = Projection(entry_row, COLUMNS)


def within(folder: str) -> ColumnElement[bool]:
    """Condition for the entries at or below `folder`, as ranges that the index on (dataset, path) serves."""
    if not folder:
        return literal(value=True)
    # '0' follows '/' in byte order, so this range is exactly the paths that start with `folder/`.
    below = (Entry.path > folder + "/") & (Entry.path < folder + "0")
    return or_(Entry.path == folder, below)


# Frequent statements are built once: building and adapting one costs more than running it.
_FIND = select(*COLUMNS).where(
    Entry.dataset_id == bindparam("dataset_id", type_=Entry.dataset_id.type),
    Entry.path == bindparam("path", type_=PathText),
)


async def find(connection: AsyncConnection, dataset_id: DatasetId, path: str) -> EntryRow | None:
    """The entry at `path`."""
    row = (await connection.execute(_FIND, {"dataset_id": dataset_id, "path": path})).one_or_none()
    return None if row is None else entry_row(*row)


async def find_where(
    connection: AsyncConnection,
    dataset_id: DatasetId,
    *conditions: ColumnElement[bool],
    max_count: int | None = None,
) -> list[EntryRow]:
    """The dataset's entries that meet every condition, by path."""
    query = (
        select(*COLUMNS)
        .where(Entry.dataset_id == dataset_id, *conditions)
        .order_by(Entry.path)
        .limit(max_count)
    )
    return [entry_row(*row) for row in await connection.execute(query)]


_NAMED = (
    select(*COLUMNS)
    .where(
        Entry.dataset_id == bindparam("dataset_id"),
        Entry.path == any_(bindparam("paths", type_=ARRAY(PathText))),
    )
    .order_by(Entry.path)
)


async def find_named(
    connection: AsyncConnection, dataset_id: DatasetId, named_paths: Sequence[str]
) -> list[EntryRow]:
    """The entries at the given paths and everything below those that are folders, by path."""
    bound = {"dataset_id": dataset_id, "paths": list(named_paths)}
    found = [entry_row(*row) for row in await connection.execute(_NAMED, bound)]
    folders = [row.path for row in found if row.type == FOLDER] + [path for path in named_paths if not path]
    if not folders:
        return found
    files = [row for row in found if not any(paths.within(row.path, folder) for folder in folders)]
    below = await find_within(connection, dataset_id, folders)
    return sorted([*files, *below], key=lambda row: row.path.encode())


async def find_within(
    connection: AsyncConnection, dataset_id: DatasetId, named_paths: Sequence[str]
) -> list[EntryRow]:
    """The entries at or below any of the paths (`""` is the root), by path."""
    condition = or_(*(within(path) for path in named_paths))
    return await find_where(connection, dataset_id, condition)


async def list_page(  # noqa: PLR0913  which part of which folder
    connection: AsyncConnection,
    dataset_id: DatasetId,
    folder: str,
    *,
    recursive: bool,
    after: str,
    max_count: int,
) -> list[EntryRow]:
    """The next entries in `folder` (`""` is the root), or anywhere below it, that follow the path `after`."""
    in_folder = Entry.parent == folder
    if recursive:
        in_folder = and_(within(folder), Entry.path != folder)
    return await find_where(connection, dataset_id, in_folder, Entry.path > after, max_count=max_count)


@dataclass(frozen=True, slots=True)
class EntryTotals:
    """Number and total size of some entries."""

    count: int
    size_bytes: int


async def measure(
    connection: AsyncConnection, dataset_id: DatasetId, named_paths: Sequence[str]
) -> EntryTotals:
    """Number and total size of the entries at or below the paths (`""` is the root)."""
    total = func.coalesce(func.sum(Entry.size_bytes), 0).cast(BigInteger)
    query = select(func.count(), total).where(
        Entry.dataset_id == dataset_id, or_(*(within(path) for path in named_paths))
    )
    return EntryTotals(*(await connection.execute(query)).one())


async def stream_within(
    connection: AsyncConnection,
    dataset_id: DatasetId,
    named_paths: Sequence[str],
    projection: Projection[Row],
    *,
    ordered: bool = True,
) -> AsyncIterator[Row]:
    """The entries at or below any of the paths (`""` is the root), by path unless `ordered` is False.

    They are read in batches, so that large datasets don't fill the memory; needs a transaction.
    """
    query = (
        select(*projection.columns)
        .where(Entry.dataset_id == dataset_id, or_(*(within(path) for path in outermost(named_paths))))
        .execution_options(yield_per=STREAM_ROWS)
    )
    if ordered:
        query = query.order_by(Entry.path)
    async for batch in (await connection.stream(query)).partitions():
        for row in batch:
            yield projection.row_type(*row)


def outermost(named_paths: Iterable[str]) -> list[str]:
    """The paths without those that are within another of them."""
    outer: list[str] = []
    for path in sorted(set(named_paths), key=lambda path: path.split("/")):
        if not outer or not paths.within(path, outer[-1]):
            outer.append(path)
    return outer


_AMONG = any_(bindparam("paths", type_=ARRAY(PathText)))


async def files_among(
    connection: AsyncConnection, dataset_id: DatasetId, candidates: Sequence[str]
) -> list[str]:
    """The candidate paths that have a file."""
    return await _paths_among(connection, dataset_id, candidates, Entry.type != FOLDER)


async def folders_among(
    connection: AsyncConnection, dataset_id: DatasetId, candidates: Sequence[str]
) -> list[str]:
    """The candidate paths that have a folder."""
    return await _paths_among(connection, dataset_id, candidates, Entry.type == FOLDER)


async def file_hashes_among(
    connection: AsyncConnection, dataset_id: DatasetId, candidates: Sequence[str]
) -> dict[str, str]:
    """The content hash of each candidate path that has a file, by path."""
    query = (
        select(Entry.path, Entry.sha256)
        .where(Entry.dataset_id == dataset_id, Entry.path == _AMONG, Entry.type != FOLDER)
        .order_by(Entry.path)
    )
    rows = await connection.execute(query, {"paths": list(candidates)})
    return {row.path: row.sha256 for row in rows}


async def contents_among(
    connection: AsyncConnection, dataset_id: DatasetId, candidates: Sequence[str]
) -> dict[str, str | None]:
    """The blob key of each candidate path that has an entry; None for a folder."""
    if not candidates:
        return {}
    query = select(Entry.path, Entry.blob_key).where(Entry.dataset_id == dataset_id, Entry.path == _AMONG)
    rows = await connection.execute(query, {"paths": list(candidates)})
    return {row.path: row.blob_key for row in rows}


async def _paths_among(
    connection: AsyncConnection,
    dataset_id: DatasetId,
    candidates: Sequence[str],
    kind: ColumnElement[bool],
) -> list[str]:
    query = select(Entry.path).where(Entry.dataset_id == dataset_id, Entry.path == _AMONG, kind)
    return list((await connection.execute(query.order_by(Entry.path), {"paths": list(candidates)})).scalars())
