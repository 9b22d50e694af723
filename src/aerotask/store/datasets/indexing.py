"""Queries of the indexer: claiming unindexed entries and storing their metadata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Integer, and_, any_, bindparam, func, select, text, update
from sqlalchemy.dialects.postgresql import ARRAY, INTERVAL, JSONB
from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.db.clock import db_now
from aerotask.db.models import Entry, PathText
from aerotask.domain.ids import DatasetId, EntryId, new_id

CHANNEL = "aerotask_entries"
"""Channel on which commits with new entries notify workers."""


@dataclass(frozen=True, slots=True)
class UnindexedEntry:
    """An entry claimed by one worker with a fencing token."""

    id: EntryId
    token: UUID
    path: str
    blob_key: str
    attempt: int
    dataset_id: DatasetId
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Metadata:
    """Metadata extracted from an entry's content."""

    type: str
    properties: dict[str, Any]
    point_geom: dict[str, Any] | None = None
    polygon_geom: dict[str, Any] | None = None


async def notify_indexers(connection: AsyncConnection) -> None:
    """Notifies workers of new entries when this transaction commits."""
    await connection.execute(select(func.pg_notify(CHANNEL, "")))


_DUE = (
    select(Entry.id)
    .where(~Entry.indexed, Entry.index_due_at <= db_now(), Entry.blob_key.is_not(None))
    .order_by(Entry.index_due_at)
    .limit(bindparam("max_count", type_=Integer))
    .with_for_update(skip_locked=True)
)
# Built once, since every worker runs it at each poll.
_CLAIM = (
    update(Entry)
    .where(Entry.id.in_(_DUE))
    .values(
        index_token=bindparam("token"),
        index_due_at=db_now() + bindparam("lease", type_=INTERVAL),
        index_attempts=Entry.index_attempts + 1,
    )
    .returning(Entry.id, Entry.path, Entry.blob_key, Entry.index_attempts, Entry.dataset_id, Entry.size_bytes)
)


async def claim(connection: AsyncConnection, *, max_count: int, lease_s: float) -> list[UnindexedEntry]:
    """Claims entries to index for `lease_s`; after a crash they are claimed again when that has passed."""
    token = new_id()
    values = {"max_count": max_count, "token": token, "lease": timedelta(seconds=lease_s)}
    rows = await connection.execute(_CLAIM, values)
    return [
        UnindexedEntry(EntryId(row[0]), token, row[1], row[2] or "", row[3], DatasetId(row[4]), row[5])
        for row in rows
    ]


async def extend(connection: AsyncConnection, entries: Sequence[UnindexedEntry], *, lease_s: float) -> None:
    """Extends the claim of entries that were claimed together to `lease_s` from now."""
    await connection.execute(
        update(Entry)
        .where(Entry.id.in_([entry.id for entry in entries]), Entry.index_token == entries[0].token)
        .values(index_due_at=db_now() + bindparam("lease", type_=INTERVAL)),
        {"lease": timedelta(seconds=lease_s)},
    )


async def finish(connection: AsyncConnection, entry: UnindexedEntry, metadata: Metadata) -> bool:
    """Stores the metadata; False if the content has been replaced since the claim."""
    statement = (
        update(Entry)
        .where(Entry.id == entry.id, Entry.index_token == entry.token)
        .values(
            type=metadata.type,
            properties=metadata.properties,
            point_geom=metadata.point_geom,
            polygon_geom=metadata.polygon_geom,
            indexed=True,
            index_token=None,
        )
    )
    return bool((await connection.execute(statement)).rowcount)


_FINISH = text("""
    UPDATE entries SET type = found.type, properties = found.properties, point_geom = found.point_geom,
           polygon_geom = found.polygon_geom, indexed = true, index_token = NULL
    FROM jsonb_to_recordset(:rows) AS found(id uuid, token uuid, type text, properties jsonb, point_geom jsonb,
                                            polygon_geom jsonb)
    WHERE entries.id = found.id AND entries.index_token = found.token
""").bindparams(bindparam("rows", type_=JSONB))


async def finish_all(connection: AsyncConnection, indexed: Sequence[tuple[UnindexedEntry, Metadata]]) -> int:
    """As `finish`, for many entries in one statement; returns the number stored."""
    if not indexed:
        return 0
    rows = [
        {"id": str(entry.id), "token": str(entry.token), **asdict(metadata)} for entry, metadata in indexed
    ]
    return (await connection.execute(_FINISH, {"rows": rows})).rowcount


async def release(connection: AsyncConnection, entries: Sequence[UnindexedEntry]) -> None:
    """Returns claimed entries without counting the attempt; they can be claimed again at once."""
    if not entries:
        return
    await connection.execute(
        update(Entry)
        .where(Entry.id.in_([entry.id for entry in entries]), Entry.index_token == entries[0].token)
        .values(index_token=None, index_due_at=db_now(), index_attempts=Entry.index_attempts - 1)
    )


_UPDATE_METADATA = text("""
    UPDATE entries SET type = found.type, sha256 = found.sha256, properties = found.properties,
           point_geom = found.point_geom, polygon_geom = found.polygon_geom, indexed = true, index_token = NULL
    FROM jsonb_to_recordset(:rows) AS found(path text, blob_key text, type text, sha256 text, properties jsonb,
                                            point_geom jsonb, polygon_geom jsonb)
    WHERE entries.dataset_id = :dataset_id AND entries.path = found.path COLLATE "C"
      AND entries.blob_key = found.blob_key
""").bindparams(bindparam("rows", type_=JSONB), bindparam("dataset_id", type_=Entry.dataset_id.type))


async def update_metadata(
    connection: AsyncConnection, dataset_id: DatasetId, rows: Sequence[Mapping[str, Any]]
) -> int:
    """Updates the metadata of entries that still have the content that was read; returns their number.

    Each row has `path`, `blob_key`, `sha256`, `type`, `properties`, `point_geom` and `polygon_geom`.
    """
    values = {"rows": list(rows), "dataset_id": dataset_id}
    return (await connection.execute(_UPDATE_METADATA, values)).rowcount


async def index_again(connection: AsyncConnection, dataset_id: DatasetId, paths: Sequence[str]) -> None:
    """Marks the files at these paths as unindexed; the results of current claims are discarded."""
    await connection.execute(_INDEX_AGAIN, {"in_dataset": dataset_id, "paths": list(paths)})


async def contents_at(
    connection: AsyncConnection, dataset_id: DatasetId, paths: Sequence[str]
) -> dict[str, str]:
    """The blob keys of the files among the paths."""
    rows = await connection.execute(_CONTENTS_AT, {"in_dataset": dataset_id, "paths": list(paths)})
    return {path: key or "" for path, key in rows}


# One array instead of a parameter for each path: there may be a hundred thousand.
_FILES_AT = and_(
    Entry.dataset_id == bindparam("in_dataset"),
    Entry.path == any_(bindparam("paths", type_=ARRAY(PathText))),
    Entry.blob_key.is_not(None),
)
_INDEX_AGAIN = (
    update(Entry)
    .where(_FILES_AT)
    .values(indexed=False, index_token=None, index_attempts=0, index_due_at=db_now())
)
_CONTENTS_AT = select(Entry.path, Entry.blob_key).where(_FILES_AT)
