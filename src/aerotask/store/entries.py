"""Queries for the entries of a dataset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, any_, bindparam, delete, literal, or_, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.domain import paths
from aerotask.domain.ids import DatasetId, EntryId, new_id
from aerotask.store.clock import db_now
from aerotask.store.models import Entry, PathText

FOLDER = "directory"


@dataclass(frozen=True, slots=True)
class EntryRow:
    """An entry with everything that its clients see, and the blob that holds its content."""

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


@dataclass(frozen=True, slots=True)
class Content:
    """Stored content that an entry is to have."""

    blob_key: str
    sha256: str
    size_bytes: int
    type: str


_COLUMNS = (
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


def within(folder: str) -> ColumnElement[bool]:
    """Entries at or below `folder`, as ranges that the index on (dataset, path) serves."""
    if not folder:
        return literal(value=True)
    # '0' follows '/' in byte order, so this range is exactly what starts with `folder/`.
    below = (Entry.path > folder + "/") & (Entry.path < folder + "0")
    return or_(Entry.path == folder, below)


async def find(connection: AsyncConnection, dataset_id: DatasetId, path: str) -> EntryRow | None:
    """The entry at `path`."""
    query = select(*_COLUMNS).where(Entry.dataset_id == dataset_id, Entry.path == path)
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else EntryRow(*row)


async def find_where(
    connection: AsyncConnection,
    dataset_id: DatasetId,
    *conditions: ColumnElement[bool],
    at_most: int | None = None,
) -> list[EntryRow]:
    """The dataset's entries that fulfil every condition, by path."""
    query = (
        select(*_COLUMNS)
        .where(Entry.dataset_id == dataset_id, *conditions)
        .order_by(Entry.path)
        .limit(at_most)
    )
    return [EntryRow(*row) for row in await connection.execute(query)]


_NAMED = (
    select(*_COLUMNS)
    .where(
        Entry.dataset_id == bindparam("dataset_id"),
        Entry.path == any_(bindparam("paths", type_=ARRAY(PathText))),
    )
    .order_by(Entry.path)
)


async def find_named(
    connection: AsyncConnection, dataset_id: DatasetId, named: Sequence[str]
) -> list[EntryRow]:
    """The entries at any of the named paths, and everything below those that are folders, by path."""
    bound = {"dataset_id": dataset_id, "paths": list(named)}
    found = [EntryRow(*row) for row in await connection.execute(_NAMED, bound)]
    folders = [row.path for row in found if row.type == FOLDER] + [path for path in named if not path]
    if not folders:
        return found
    files = [row for row in found if not any(paths.within(row.path, folder) for folder in folders)]
    below = await find_within(connection, dataset_id, folders)
    return sorted([*files, *below], key=lambda row: row.path.encode())


async def find_within(
    connection: AsyncConnection, dataset_id: DatasetId, named: Sequence[str]
) -> list[EntryRow]:
    """The entries at or below any of the named paths (`""` is the root), by path."""
    query = (
        select(*_COLUMNS)
        .where(Entry.dataset_id == dataset_id, or_(*(within(path) for path in named)))
        .order_by(Entry.path)
    )
    return [EntryRow(*row) for row in await connection.execute(query)]


async def files_among(
    connection: AsyncConnection, dataset_id: DatasetId, candidates: Sequence[str]
) -> list[str]:
    """Those of the paths at which there is a file."""
    query = select(Entry.path).where(
        Entry.dataset_id == dataset_id,
        Entry.path.in_(candidates),
        Entry.type != FOLDER,
    )
    return list((await connection.execute(query)).scalars())


async def add_folders(connection: AsyncConnection, dataset_id: DatasetId, folders: Sequence[str]) -> None:
    """Make sure that there is an entry at each of the paths; what is there stays."""
    if not folders:
        return
    rows = [
        {
            "id": new_id(),
            "dataset_id": dataset_id,
            "path": folder,
            "parent": _parent(folder),
            "depth": paths.depth(folder),
            "type": FOLDER,
            "indexed": True,
        }
        for folder in folders
    ]
    await connection.execute(upsert(Entry).values(rows).on_conflict_do_nothing())


async def put_file(
    connection: AsyncConnection, dataset_id: DatasetId, path: str, content: Content
) -> EntryRow:
    """Make the entry at `path` have this content, whether or not there was a file; to be indexed anew."""
    fresh = {
        "type": content.type,
        "sha256": content.sha256,
        "blob_key": content.blob_key,
        "size_bytes": content.size_bytes,
        "modified_at": db_now(),
        "properties": {},
        "point_geom": None,
        "polygon_geom": None,
        "indexed": False,
        "index_attempts": 0,
        "index_due_at": db_now(),
        "index_token": None,
    }
    statement = (
        upsert(Entry)
        .values(
            id=new_id(),
            dataset_id=dataset_id,
            path=path,
            parent=_parent(path),
            depth=paths.depth(path),
            **fresh,
        )
        .on_conflict_do_update(index_elements=[Entry.dataset_id, Entry.path], set_=fresh)
        .returning(*_COLUMNS)
    )
    return EntryRow(*(await connection.execute(statement)).one())


async def remove_within(connection: AsyncConnection, dataset_id: DatasetId, path: str) -> list[str]:
    """Remove the entry at `path` and all below it; the paths that went."""
    statement = delete(Entry).where(Entry.dataset_id == dataset_id, within(path)).returning(Entry.path)
    return list((await connection.execute(statement)).scalars())


def _parent(path: str) -> str:
    return path.rpartition("/")[0]
