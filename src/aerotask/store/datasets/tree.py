"""Queries that move and copy trees of entries."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Integer, Text, case, func, insert, literal, select, update
from sqlalchemy.dialects.postgresql import TIMESTAMP
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import InstrumentedAttribute

from aerotask.db.clock import db_now
from aerotask.db.models import Entry, PathText
from aerotask.domain import paths
from aerotask.domain.ids import DatasetId
from aerotask.store.datasets.entries import within
from aerotask.store.datasets.entry_writes import path_ranges
from aerotask.store.datasets.index_queue import IndexLane, org_of


async def longest_below(connection: AsyncConnection, dataset_id: DatasetId, path: str) -> int:
    """Length in bytes of the longest path at or below `path`."""
    query = select(func.max(func.octet_length(Entry.path))).where(
        Entry.dataset_id == dataset_id, within(path)
    )
    return (await connection.execute(query)).scalar_one_or_none() or 0


async def move(
    connection: AsyncConnection, dataset_id: DatasetId, source: str, dest: str, *, new_type: str | None
) -> int:
    """Moves the entry at `source` and everything below it to `dest`; returns the number of entries.

    `new_type` is the file's type by its new suffix: it is indexed again.
    """
    values = {**_moved_keys(source, dest), **({} if new_type is None else _unindexed(new_type, dataset_id))}
    moved = 0
    async for path_range in path_ranges(connection, dataset_id, source):
        statement = update(Entry).where(Entry.dataset_id == dataset_id, path_range).values(**values)
        moved += (await connection.execute(statement)).rowcount
    return moved


async def copy(
    connection: AsyncConnection, dataset_id: DatasetId, source: str, dest: str, *, new_type: str | None
) -> int:
    """Copies the entry at `source` and everything below it to `dest`; returns the number of entries."""
    columns: dict[str, Any] = {
        "id": func.gen_random_uuid(),
        "dataset_id": Entry.dataset_id,
        **_moved_keys(source, dest),
        "sha256": Entry.sha256,
        "blob_key": Entry.blob_key,
        "size_bytes": Entry.size_bytes,
        "type": Entry.type,
        "properties": Entry.properties,
        "point_geom": Entry.point_geom,
        "polygon_geom": Entry.polygon_geom,
        "indexed": Entry.indexed,
        "index_lane": _waiting(Entry.index_lane, literal(int(IndexLane.BULK), Entry.index_lane.type)),
        "index_attempts": _waiting(Entry.index_attempts, literal(0)),
        "index_due_at": _waiting(Entry.index_due_at, db_now()),
        "index_org_id": org_of(dataset_id),
        "modified_at": func.clock_timestamp(type_=TIMESTAMP(timezone=True)),
        **({} if new_type is None else _unindexed(new_type, dataset_id)),
    }
    copied = 0
    async for path_range in path_ranges(connection, dataset_id, source):
        chosen = select(*columns.values()).where(Entry.dataset_id == dataset_id, path_range)
        copied += (await connection.execute(insert(Entry).from_select(list(columns), chosen))).rowcount
    return copied


def _moved_keys(source: str, dest: str) -> dict[str, ColumnElement[Any]]:
    """The path, parent and depth of an entry after a move from `source` to `dest`."""
    rest = func.substr(Entry.path, len(source) + 1, type_=PathText)
    rest_of_parent = func.substr(Entry.parent, len(source) + 1, type_=PathText)
    above = literal(dest.rpartition("/")[0], PathText)
    return {
        "path": literal(dest, PathText) + rest,
        "parent": case((Entry.path == source, above), else_=literal(dest, PathText) + rest_of_parent),
        "depth": Entry.depth + literal(paths.depth(dest) - paths.depth(source), Integer),
    }


def _waiting(indexed: InstrumentedAttribute[Any], unindexed: ColumnElement[Any]) -> ColumnElement[Any]:
    """The place of a copy in the queue: one that is not indexed begins anew, one that was given up keeps its place."""
    return case((Entry.indexed, indexed), else_=unindexed)


def _unindexed(new_type: str, dataset_id: DatasetId) -> dict[str, Any]:
    """The values that `entry_writes.put_file` sets for new content."""
    return {
        "type": literal(new_type, Text),
        "properties": literal({}, Entry.properties.type),
        "point_geom": literal(None, Entry.point_geom.type),
        "polygon_geom": literal(None, Entry.polygon_geom.type),
        "indexed": literal(value=False),
        "index_attempts": literal(0),
        "index_due_at": db_now(),
        "index_token": literal(None, Entry.index_token.type),
        "index_lane": literal(int(IndexLane.SINGLE), Entry.index_lane.type),
        "index_org_id": org_of(dataset_id),
    }
