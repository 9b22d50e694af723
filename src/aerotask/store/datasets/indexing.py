"""Queries of the indexer: entries whose content nobody has looked into yet."""

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
"""Postgres tells workers on it, with the commit, that there is something to index."""


@dataclass(frozen=True, slots=True)
class UnindexedEntry:
    """An entry handed to one worker under a fencing token."""

    id: EntryId
    token: UUID
    path: str
    blob_key: str
    attempt: int
    dataset_id: DatasetId
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Metadata:
    """What was found in an entry's content."""

    type: str
    properties: dict[str, Any]
    point_geom: dict[str, Any] | None = None
    polygon_geom: dict[str, Any] | None = None


async def announce(connection: AsyncConnection) -> None:
    """Tell workers, once this transaction commits, that there are entries to index."""
    await connection.execute(select(func.pg_notify(CHANNEL, "")))


_DUE = (
    select(Entry.id)
    .where(~Entry.indexed, Entry.index_due_at <= db_now(), Entry.blob_key.is_not(None))
    .order_by(Entry.index_due_at)
    .limit(bindparam("at_most", type_=Integer))
    .with_for_update(skip_locked=True)
)
# Built once, since every worker asks once a poll.
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


async def claim(connection: AsyncConnection, *, at_most: int, lease_s: float) -> list[UnindexedEntry]:
    """Take entries to index for `lease_s`; whoever crashes on one leaves it to be tried again after that."""
    token = new_id()
    named = {"at_most": at_most, "token": token, "lease": timedelta(seconds=lease_s)}
    rows = await connection.execute(_CLAIM, named)
    return [
        UnindexedEntry(EntryId(row[0]), token, row[1], row[2] or "", row[3], DatasetId(row[4]), row[5])
        for row in rows
    ]


async def prolong(connection: AsyncConnection, entries: Sequence[UnindexedEntry], *, lease_s: float) -> None:
    """Have entries that were taken at once for `lease_s` from now on."""
    await connection.execute(
        update(Entry)
        .where(Entry.id.in_([entry.id for entry in entries]), Entry.index_token == entries[0].token)
        .values(index_due_at=db_now() + bindparam("lease", type_=INTERVAL)),
        {"lease": timedelta(seconds=lease_s)},
    )


async def finish(connection: AsyncConnection, entry: UnindexedEntry, found: Metadata) -> bool:
    """Store what was found, unless the content has been replaced meanwhile; whether it was stored."""
    statement = (
        update(Entry)
        .where(Entry.id == entry.id, Entry.index_token == entry.token)
        .values(
            type=found.type,
            properties=found.properties,
            point_geom=found.point_geom,
            polygon_geom=found.polygon_geom,
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


async def finish_all(connection: AsyncConnection, found: Sequence[tuple[UnindexedEntry, Metadata]]) -> int:
    """As `finish`, for many entries at once; of how many it was stored."""
    if not found:
        return 0
    rows = [{"id": str(entry.id), "token": str(entry.token), **asdict(metadata)} for entry, metadata in found]
    return (await connection.execute(_FINISH, {"rows": rows})).rowcount


async def release(connection: AsyncConnection, entries: Sequence[UnindexedEntry]) -> None:
    """Let entries that were taken but not looked into be taken again at once, as if they never had been."""
    if not entries:
        return
    await connection.execute(
        update(Entry)
        .where(Entry.id.in_([entry.id for entry in entries]), Entry.index_token == entries[0].token)
        .values(index_token=None, index_due_at=db_now(), index_attempts=Entry.index_attempts - 1)
    )


_REDESCRIBE = text("""
    UPDATE entries SET type = found.type, sha256 = found.sha256, properties = found.properties,
           point_geom = found.point_geom, polygon_geom = found.polygon_geom, indexed = true, index_token = NULL
    FROM jsonb_to_recordset(:rows) AS found(path text, blob_key text, type text, sha256 text, properties jsonb,
                                            point_geom jsonb, polygon_geom jsonb)
    WHERE entries.dataset_id = :dataset_id AND entries.path = found.path COLLATE "C"
      AND entries.blob_key = found.blob_key
""").bindparams(bindparam("rows", type_=JSONB), bindparam("dataset_id", type_=Entry.dataset_id.type))


async def redescribe(
    connection: AsyncConnection, dataset_id: DatasetId, rows: Sequence[Mapping[str, Any]]
) -> int:
    """Store what was found anew of many entries, where they still have the content that was read; how many had.

    Each row has `path`, `blob_key`, `sha256`, `type`, `properties`, `point_geom` and `polygon_geom`.
    """
    named = {"rows": list(rows), "dataset_id": dataset_id}
    return (await connection.execute(_REDESCRIBE, named)).rowcount


async def index_again(connection: AsyncConnection, dataset_id: DatasetId, paths: Sequence[str]) -> None:
    """Have the files at these paths looked into once more; whoever is at it now, finishes in vain."""
    await connection.execute(_INDEX_AGAIN, {"in_dataset": dataset_id, "at": list(paths)})


async def contents_at(
    connection: AsyncConnection, dataset_id: DatasetId, paths: Sequence[str]
) -> dict[str, str]:
    """The blobs of those of the paths at which there is a file."""
    rows = await connection.execute(_CONTENTS_AT, {"in_dataset": dataset_id, "at": list(paths)})
    return {path: key or "" for path, key in rows}


# One array and not a parameter for each: there may be a hundred thousand.
_FILES_AT = and_(
    Entry.dataset_id == bindparam("in_dataset"),
    Entry.path == any_(bindparam("at", type_=ARRAY(PathText))),
    Entry.blob_key.is_not(None),
)
_INDEX_AGAIN = (
    update(Entry)
    .where(_FILES_AT)
    .values(indexed=False, index_token=None, index_attempts=0, index_due_at=db_now())
)
_CONTENTS_AT = select(Entry.path, Entry.blob_key).where(_FILES_AT)
