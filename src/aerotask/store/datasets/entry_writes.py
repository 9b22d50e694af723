"""Queries that add, replace and remove the entries of a dataset."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    Subquery,
    Text,
    and_,
    bindparam,
    delete,
    func,
    literal,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import ARRAY, TIMESTAMP
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.db.clock import db_now
from aerotask.db.models import Entry, PathText
from aerotask.domain import paths
from aerotask.domain.ids import DatasetId, new_id
from aerotask.store.datasets.entries import COLUMNS, FOLDER, EntryContent, EntryRow, entry_row, within
from aerotask.store.datasets.index_queue import IndexLane, org_of

RANGE_ROWS = 5000
"""Entries that one statement changes, so that it ends soon."""


async def add_folders(
    connection: AsyncConnection,
    dataset_id: DatasetId,
    folders: Sequence[str],
    *,
    mtimes: Mapping[str, int | None] | None = None,
) -> None:
    """Adds folders at the paths; existing entries stay as they are.

    `mtimes` has the times of their last change in Unix seconds, where it isn't now.
    """
    if folders:
        given = mtimes or {}
        times = {"mtimes": [given.get(folder) for folder in folders]}
        await connection.execute(_ADD_FOLDERS, {"dataset_id": dataset_id, **_keys_of(folders), **times})


def _keys_of(new_paths: Sequence[str]) -> dict[str, list[Any]]:
    """The ids, paths, parents and depths of new rows, as arrays."""
    return {
        "ids": [new_id() for _ in new_paths],
        "paths": list(new_paths),
        "parents": [_parent(path) for path in new_paths],
        "depths": [paths.depth(path) for path in new_paths],
    }


# One array per column instead of parameters per row: Postgres takes 32,767 parameters.
_KEYS = {
    "id": func.unnest(bindparam("ids", type_=ARRAY(Entry.id.type))),
    "dataset_id": bindparam("dataset_id", type_=Entry.dataset_id.type),
    "path": func.unnest(bindparam("paths", type_=ARRAY(PathText))),
    "parent": func.unnest(bindparam("parents", type_=ARRAY(PathText))),
    "depth": func.unnest(bindparam("depths", type_=ARRAY(Integer))),
}
_MTIMES = func.unnest(bindparam("mtimes", type_=ARRAY(BigInteger)))


def _rows_of(columns: Mapping[str, ColumnElement[Any]]) -> Subquery:
    """The columns as rows, with a column `mtime`: COALESCE takes no function that returns a set."""
    labelled = (column.label(name) for name, column in {**columns, "mtime": _MTIMES}.items())
    return select(*labelled).subquery()


def _modified_at(rows: Subquery) -> ColumnElement[datetime]:
    return func.coalesce(func.to_timestamp(rows.c.mtime, type_=TIMESTAMP(timezone=True)), db_now())


_FOLDER_ROWS = _rows_of(_KEYS)
_ADD_FOLDERS = (
    upsert(Entry)
    .from_select(
        [*_KEYS, "type", "indexed", "modified_at"],
        select(
            *(_FOLDER_ROWS.c[name] for name in _KEYS), literal(FOLDER), true(), _modified_at(_FOLDER_ROWS)
        ),
    )
    .on_conflict_do_nothing()
)


_UNINDEXED: dict[str, Any] = {
    "modified_at": db_now(),
    "properties": {},
    "point_geom": None,
    "polygon_geom": None,
    "indexed": False,
    "index_attempts": 0,
    "index_due_at": db_now(),
    "index_token": None,
}
"""The values of an entry whose content is new and has still to be indexed."""


async def put_file(
    connection: AsyncConnection, dataset_id: DatasetId, path: str, content: EntryContent
) -> EntryRow:
    """Adds the file at `path` or replaces its content; it has to be indexed again."""
    fresh = {
        "type": content.type,
        "sha256": content.sha256,
        "blob_key": content.blob_key,
        "size_bytes": content.size_bytes,
        "index_lane": int(IndexLane.SINGLE),
        "index_org_id": org_of(dataset_id),
        **_UNINDEXED,
    }
    if content.mtime is not None:
        fresh["modified_at"] = func.to_timestamp(content.mtime, type_=TIMESTAMP(timezone=True))
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
    return entry_row(*(await connection.execute(statement)).one())


_CONTENT = {
    "type": func.unnest(bindparam("types", type_=ARRAY(Text))),
    "sha256": func.unnest(bindparam("sha256s", type_=ARRAY(Text))),
    "blob_key": func.unnest(bindparam("blob_keys", type_=ARRAY(Text))),
    "size_bytes": func.unnest(bindparam("sizes", type_=ARRAY(BigInteger))),
    "index_lane": bindparam("lane", type_=Entry.index_lane.type),
    "index_org_id": org_of(_KEYS["dataset_id"]),
}
_FILE_ROWS = _rows_of({**_KEYS, **_CONTENT})
_ADD_FILES = upsert(Entry).from_select(
    [*_KEYS, *_CONTENT, "modified_at"],
    select(*(_FILE_ROWS.c[name] for name in (*_KEYS, *_CONTENT)), _modified_at(_FILE_ROWS)),
)
_PUT_FILES = _ADD_FILES.on_conflict_do_update(
    index_elements=[Entry.dataset_id, Entry.path],
    set_={**_UNINDEXED, **{name: _ADD_FILES.excluded[name] for name in (*_CONTENT, "modified_at")}},
)


async def put_files(
    connection: AsyncConnection,
    dataset_id: DatasetId,
    files: Mapping[str, EntryContent],
    *,
    lane: IndexLane = IndexLane.BULK,
) -> None:
    """As `put_file`, for many paths in one statement; they wait in `lane` to be indexed."""
    contents = list(files.values())
    columns = {
        "types": [str(content.type) for content in contents],
        "sha256s": [content.sha256 for content in contents],
        "blob_keys": [content.blob_key for content in contents],
        "sizes": [content.size_bytes for content in contents],
        "mtimes": [content.mtime for content in contents],
    }
    if files:
        values = {"dataset_id": dataset_id, "lane": int(lane), **_keys_of(list(files)), **columns}
        await connection.execute(_PUT_FILES, values)


async def remove_within(connection: AsyncConnection, dataset_id: DatasetId, path: str) -> list[str]:
    """Removes the entry at `path` and everything below it; returns the removed paths."""
    removed: list[str] = []
    async for path_range in path_ranges(connection, dataset_id, path):
        statement = delete(Entry).where(Entry.dataset_id == dataset_id, path_range).returning(Entry.path)
        removed += (await connection.execute(statement)).scalars()
    return removed


async def path_ranges(
    connection: AsyncConnection, dataset_id: DatasetId, source: str
) -> AsyncIterator[ColumnElement[bool]]:
    """Conditions that split the entries at and below `source` into ranges of `RANGE_ROWS` rows."""
    after = ""
    while True:
        rest = and_(within(source), Entry.path > after)
        query = select(Entry.path).where(Entry.dataset_id == dataset_id, rest).order_by(Entry.path)
        last = (await connection.execute(query.offset(RANGE_ROWS - 1).limit(1))).scalar_one_or_none()
        if last is None:
            yield rest
            return
        yield and_(rest, Entry.path <= last)
        after = last


def _parent(path: str) -> str:
    return path.rpartition("/")[0]
