"""Queries for the entries of a dataset."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    Text,
    and_,
    any_,
    bindparam,
    delete,
    func,
    literal,
    or_,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.db.clock import db_now
from aerotask.db.models import Entry, PathText
from aerotask.domain import paths
from aerotask.domain.ids import DatasetId, EntryId, new_id

FOLDER = "directory"
STREAM_ROWS = 500
PIECE = 5000
"""So many entries one statement changes, so that it ends soon."""


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
class EntryContent:
    """Stored content that an entry is to have."""

    blob_key: str
    sha256: str
    size_bytes: int
    type: str


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


def within(folder: str) -> ColumnElement[bool]:
    """Entries at or below `folder`, as ranges that the index on (dataset, path) serves."""
    if not folder:
        return literal(value=True)
    # '0' follows '/' in byte order, so this range is exactly what starts with `folder/`.
    below = (Entry.path > folder + "/") & (Entry.path < folder + "0")
    return or_(Entry.path == folder, below)


# Statements that are asked for often are built once: building and adapting one costs more than running it.
_FIND = select(*COLUMNS).where(
    Entry.dataset_id == bindparam("dataset_id", type_=Entry.dataset_id.type),
    Entry.path == bindparam("path", type_=PathText),
)


async def find(connection: AsyncConnection, dataset_id: DatasetId, path: str) -> EntryRow | None:
    """The entry at `path`."""
    row = (await connection.execute(_FIND, {"dataset_id": dataset_id, "path": path})).one_or_none()
    return None if row is None else EntryRow(*row)


async def find_where(
    connection: AsyncConnection,
    dataset_id: DatasetId,
    *conditions: ColumnElement[bool],
    at_most: int | None = None,
) -> list[EntryRow]:
    """The dataset's entries that fulfil every condition, by path."""
    query = (
        select(*COLUMNS)
        .where(Entry.dataset_id == dataset_id, *conditions)
        .order_by(Entry.path)
        .limit(at_most)
    )
    return [EntryRow(*row) for row in await connection.execute(query)]


_NAMED = (
    select(*COLUMNS)
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
        select(*COLUMNS)
        .where(Entry.dataset_id == dataset_id, or_(*(within(path) for path in named)))
        .order_by(Entry.path)
    )
    return [EntryRow(*row) for row in await connection.execute(query)]


@dataclass(frozen=True, slots=True)
class EntryTotals:
    """How many entries there are, and how many bytes they have together."""

    count: int
    size_bytes: int


async def measure(connection: AsyncConnection, dataset_id: DatasetId, named: Sequence[str]) -> EntryTotals:
    """How much is at or below the named paths (`""` is the root)."""
    total = func.coalesce(func.sum(Entry.size_bytes), 0).cast(BigInteger)
    query = select(func.count(), total).where(
        Entry.dataset_id == dataset_id, or_(*(within(path) for path in named))
    )
    return EntryTotals(*(await connection.execute(query)).one())


async def stream_within(
    connection: AsyncConnection, dataset_id: DatasetId, named: Sequence[str]
) -> AsyncIterator[EntryRow]:
    """As `find_within`, a little at a time, so that a great many take no memory; needs a transaction."""
    query = (
        select(*COLUMNS)
        .where(Entry.dataset_id == dataset_id, or_(*(within(path) for path in outermost(named))))
        .order_by(Entry.path)
        .execution_options(yield_per=STREAM_ROWS)
    )
    async for row in await connection.stream(query):
        yield EntryRow(*row)


def outermost(named: Sequence[str]) -> list[str]:
    """The paths without those that lie within another of them."""
    kept: list[str] = []
    for path in sorted(set(named), key=lambda path: path.split("/")):
        if not kept or not paths.within(path, kept[-1]):
            kept.append(path)
    return kept


_AMONG = any_(bindparam("paths", type_=ARRAY(PathText)))


async def files_among(
    connection: AsyncConnection, dataset_id: DatasetId, candidates: Sequence[str]
) -> list[str]:
    """Those of the paths at which there is a file."""
    return await _paths_among(connection, dataset_id, candidates, Entry.type != FOLDER)


async def folders_among(
    connection: AsyncConnection, dataset_id: DatasetId, candidates: Sequence[str]
) -> list[str]:
    """Those of the paths at which there is a folder."""
    return await _paths_among(connection, dataset_id, candidates, Entry.type == FOLDER)


async def contents_among(
    connection: AsyncConnection, dataset_id: DatasetId, candidates: Sequence[str]
) -> dict[str, str | None]:
    """The blob that holds the content of each of the paths at which there is an entry; a folder has none."""
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


async def add_folders(connection: AsyncConnection, dataset_id: DatasetId, folders: Sequence[str]) -> None:
    """Make sure that there is an entry at each of the paths; what is there stays."""
    if folders:
        await connection.execute(_ADD_FOLDERS, {"dataset_id": dataset_id, **_places(folders)})


def _places(placed: Sequence[str]) -> dict[str, list[Any]]:
    """What new rows at these paths have because of their place."""
    return {
        "ids": [new_id() for _ in placed],
        "paths": list(placed),
        "parents": [_parent(path) for path in placed],
        "depths": [paths.depth(path) for path in placed],
    }


# A parameter for each column and not for each row: Postgres takes 32,767 of them.
_PLACE = {
    "id": func.unnest(bindparam("ids", type_=ARRAY(Entry.id.type))),
    "dataset_id": bindparam("dataset_id", type_=Entry.dataset_id.type),
    "path": func.unnest(bindparam("paths", type_=ARRAY(PathText))),
    "parent": func.unnest(bindparam("parents", type_=ARRAY(PathText))),
    "depth": func.unnest(bindparam("depths", type_=ARRAY(Integer))),
}
_ADD_FOLDERS = (
    upsert(Entry)
    .from_select([*_PLACE, "type", "indexed"], select(*_PLACE.values(), literal(FOLDER), true()))
    .on_conflict_do_nothing()
)


_UNREAD: dict[str, Any] = {
    "modified_at": db_now(),
    "properties": {},
    "point_geom": None,
    "polygon_geom": None,
    "indexed": False,
    "index_attempts": 0,
    "index_due_at": db_now(),
    "index_token": None,
}
"""What an entry is when its content is new: all there is to know of it must be found out."""


async def put_file(
    connection: AsyncConnection, dataset_id: DatasetId, path: str, content: EntryContent
) -> EntryRow:
    """Make the entry at `path` have this content, whether or not there was a file; to be indexed anew."""
    fresh = {
        "type": content.type,
        "sha256": content.sha256,
        "blob_key": content.blob_key,
        "size_bytes": content.size_bytes,
        **_UNREAD,
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
        .returning(*COLUMNS)
    )
    return EntryRow(*(await connection.execute(statement)).one())


_CONTENT = {
    "type": func.unnest(bindparam("types", type_=ARRAY(Text))),
    "sha256": func.unnest(bindparam("sha256s", type_=ARRAY(Text))),
    "blob_key": func.unnest(bindparam("blob_keys", type_=ARRAY(Text))),
    "size_bytes": func.unnest(bindparam("sizes", type_=ARRAY(BigInteger))),
}
_ADD_FILES = upsert(Entry).from_select([*_PLACE, *_CONTENT], select(*_PLACE.values(), *_CONTENT.values()))
_PUT_FILES = _ADD_FILES.on_conflict_do_update(
    index_elements=[Entry.dataset_id, Entry.path],
    set_={**{name: _ADD_FILES.excluded[name] for name in _CONTENT}, **_UNREAD},
)


async def put_files(
    connection: AsyncConnection, dataset_id: DatasetId, files: Mapping[str, EntryContent]
) -> None:
    """As `put_file`, for many paths at once."""
    contents = list(files.values())
    columns = {
        "types": [str(content.type) for content in contents],
        "sha256s": [content.sha256 for content in contents],
        "blob_keys": [content.blob_key for content in contents],
        "sizes": [content.size_bytes for content in contents],
    }
    if files:
        await connection.execute(_PUT_FILES, {"dataset_id": dataset_id, **_places(list(files)), **columns})


async def remove_within(connection: AsyncConnection, dataset_id: DatasetId, path: str) -> list[str]:
    """Remove the entry at `path` and all below it; the paths that went."""
    gone: list[str] = []
    async for piece in pieces(connection, dataset_id, path):
        statement = delete(Entry).where(Entry.dataset_id == dataset_id, piece).returning(Entry.path)
        gone += (await connection.execute(statement)).scalars()
    return gone


async def pieces(
    connection: AsyncConnection, dataset_id: DatasetId, source: str
) -> AsyncIterator[ColumnElement[bool]]:
    """The entries at and below `source` in ranges of paths, each few enough that a statement about them ends soon."""
    after = ""
    while True:
        rest = and_(within(source), Entry.path > after)
        query = select(Entry.path).where(Entry.dataset_id == dataset_id, rest).order_by(Entry.path)
        last = (await connection.execute(query.offset(PIECE - 1).limit(1))).scalar_one_or_none()
        if last is None:
            yield rest
            return
        yield and_(rest, Entry.path <= last)
        after = last


def _parent(path: str) -> str:
    return path.rpartition("/")[0]
