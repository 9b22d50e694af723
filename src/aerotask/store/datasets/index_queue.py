"""Queue of entries to index: lanes by urgency, and within a lane turns of the organizations."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum
from itertools import groupby
from operator import attrgetter
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Integer, ScalarSelect, Text, Uuid, bindparam, func, select, text, update
from sqlalchemy.dialects.postgresql import INTERVAL, JSONB, TIMESTAMP
from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.db.clock import db_now
from aerotask.db.models import Dataset, Entry
from aerotask.db.models.datasets import INDEX_ORG
from aerotask.domain.ids import DatasetId, EntryId, new_id

FROM_THE_FIRST = UUID(int=0)
"""Before every organization."""


class IndexLane(IntEnum):
    """Lanes of the queue; `Entry.index_lane`."""

    SINGLE = 0
    """Files that were uploaded one by one."""
    BULK = 1
    """Files that arrived together with others, such as those of an archive."""
    SLOW = 2
    """Files that took too long or whose reader was lost, and files that are being read."""
    GIVEN_UP = 3
    """Files whose reading has failed too often: they count as indexed, and are tried again from time to time."""
    OVERVIEWS = 4
    """Rasters that are indexed, and whose overviews are still to be made."""


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
    lane: IndexLane
    """The lane from which it was claimed."""
    org: UUID
    """The organization whose turn it was."""
    due_at: datetime
    """Its place in the lane before the claim."""


def org_of(dataset_id: DatasetId | Any) -> ScalarSelect[UUID]:
    """The organization of a dataset, for `Entry.index_org_id`."""
    return select(Dataset.org_id).where(Dataset.id == dataset_id).scalar_subquery()


# A claim must not read all waiting entries: `walk` goes from organization to organization, one step of
# `ix_entries_index_queue` each, and ends once as many have something to read as the batch has places. Each of them gets
# its share of the batch, oldest first. The clock is the statement's, since the index can't serve a volatile one.
_QUEUED = f"index_lane = :lane AND (NOT indexed OR index_lane >= {int(IndexLane.GIVEN_UP)})"
_ORDER = f"{INDEX_ORG}, index_due_at, id"
_CLAIM = text(f"""
    WITH RECURSIVE walk AS (
        (SELECT {INDEX_ORG} AS org, index_due_at AS due_at, (index_due_at <= statement_timestamp())::int AS turn
         FROM entries WHERE {_QUEUED} AND {INDEX_ORG} > :after ORDER BY {_ORDER} LIMIT 1)
        UNION ALL
        SELECT further.org, further.due_at, w.turn + (further.due_at <= statement_timestamp())::int
        FROM walk w CROSS JOIN LATERAL (
            SELECT {INDEX_ORG} AS org, index_due_at AS due_at
            FROM entries WHERE {_QUEUED} AND {INDEX_ORG} > w.org ORDER BY {_ORDER} LIMIT 1) further
        WHERE w.turn < :max_count
    ), turns AS MATERIALIZED (
        SELECT org, turn FROM walk WHERE due_at <= statement_timestamp()
    ), due AS (
        SELECT oldest.id, oldest.due_at, t.turn, t.org FROM turns t CROSS JOIN LATERAL (
            SELECT id, index_due_at AS due_at FROM entries
            WHERE {_QUEUED} AND {INDEX_ORG} = t.org AND index_due_at <= statement_timestamp()
            ORDER BY index_due_at, id
            LIMIT (SELECT ceil(:max_count / greatest(count(*), 1)::numeric) FROM turns)
            FOR UPDATE SKIP LOCKED) oldest
        LIMIT :max_count
    )
    UPDATE entries
    SET index_token = :token, index_due_at = clock_timestamp() + :lease, index_attempts = index_attempts + 1,
        index_lane = greatest(index_lane, {int(IndexLane.SLOW)})
    FROM due WHERE entries.id = due.id
    RETURNING entries.id, entries.path, entries.blob_key, entries.index_attempts, entries.dataset_id,
              entries.size_bytes, due.due_at, due.turn, due.org
""").bindparams(  # noqa: S608  our own constants
    bindparam("lane", type_=Integer),
    bindparam("after", type_=Uuid),
    bindparam("max_count", type_=Integer),
    bindparam("token", type_=Uuid),
    bindparam("lease", type_=INTERVAL),
).columns(
    id=Uuid, path=Text, blob_key=Text, index_attempts=Integer, dataset_id=Uuid, size_bytes=BigInteger,
    due_at=TIMESTAMP(timezone=True), turn=Integer, org=Uuid,
)  # fmt: skip


async def claim(
    connection: AsyncConnection,
    lane: IndexLane,
    *,
    max_count: int,
    lease_s: float,
    after: UUID = FROM_THE_FIRST,
) -> list[UnindexedEntry]:
    """Claims entries of a lane for `lease_s`; the organizations take turns, beginning with the one that follows `after`.

    The entries are in the order in which they are to be read: first one of each organization, then the next. If the claim is lost in a crash, they can be claimed again when it has passed, each by itself in the slow lane.
    """
    claimed = await _claim(connection, lane, after, max_count, lease_s)
    if after != FROM_THE_FIRST and len(claimed) < max_count:
        claimed += await _claim(connection, lane, FROM_THE_FIRST, max_count - len(claimed), lease_s)
    return claimed


async def _claim(
    connection: AsyncConnection, lane: IndexLane, after: UUID, max_count: int, lease_s: float
) -> list[UnindexedEntry]:
    token = new_id()
    values = {
        "lane": int(lane),
        "after": after,
        "max_count": max_count,
        "token": token,
        "lease": timedelta(seconds=lease_s),
    }
    rows = sorted(await connection.execute(_CLAIM, values), key=attrgetter("turn", "due_at", "id"))
    rounds = [
        (number, row) for _, turn in groupby(rows, key=attrgetter("turn")) for number, row in enumerate(turn)
    ]
    rounds.sort(key=lambda numbered: (numbered[0], numbered[1].turn))
    return [
        UnindexedEntry(
            EntryId(row.id),
            token,
            row.path,
            row.blob_key or "",
            row.index_attempts,
            DatasetId(row.dataset_id),
            row.size_bytes,
            lane,
            row.org,
            row.due_at,
        )
        for _, row in rounds
    ]


async def extend(connection: AsyncConnection, entry: UnindexedEntry, *, lease_s: float) -> None:
    """Extends the claim of an entry to `lease_s` from now."""
    await connection.execute(
        update(Entry)
        .where(Entry.id == entry.id, Entry.index_token == entry.token)
        .values(index_due_at=db_now() + bindparam("lease", type_=INTERVAL)),
        {"lease": timedelta(seconds=lease_s)},
    )


_RELEASE = text("""
    UPDATE entries SET index_token = NULL, index_due_at = claimed.due_at, index_lane = claimed.lane,
           index_attempts = index_attempts - 1
    FROM jsonb_to_recordset(:rows) AS claimed(id uuid, token uuid, due_at timestamptz, lane smallint)
    WHERE entries.id = claimed.id AND entries.index_token = claimed.token
""").bindparams(bindparam("rows", type_=JSONB))


async def release(connection: AsyncConnection, entries: Iterable[UnindexedEntry]) -> None:
    """Returns claimed entries to their places without counting the attempt; they can be claimed again at once."""
    rows = [
        {
            "id": str(entry.id),
            "token": str(entry.token),
            "due_at": entry.due_at.isoformat(),
            "lane": int(entry.lane),
        }
        for entry in entries
    ]
    if rows:
        await connection.execute(_RELEASE, {"rows": rows})


async def postpone(
    connection: AsyncConnection, entry: UnindexedEntry, *, pause_s: float, counted: bool
) -> None:
    """Returns a claimed entry to the end of the slow lane, with or without counting the attempt.

    One that waits for its overviews returns to the end of its own lane.
    """
    attempts = Entry.index_attempts if counted else Entry.index_attempts - 1
    await connection.execute(
        update(Entry)
        .where(Entry.id == entry.id, Entry.index_token == entry.token)
        .values(
            index_token=None,
            index_lane=int(IndexLane.OVERVIEWS if entry.lane is IndexLane.OVERVIEWS else IndexLane.SLOW),
            index_attempts=attempts,
            index_due_at=db_now(plus_s=pause_s),
        )
    )


async def finish_overviews(connection: AsyncConnection, entry: UnindexedEntry) -> bool:
    """Takes a claimed raster out of the queue; False if its content has been replaced or another worker has it."""
    statement = (
        update(Entry)
        .where(Entry.id == entry.id, Entry.index_token == entry.token)
        .values(index_token=None, index_lane=int(IndexLane.SINGLE), index_attempts=0)
    )
    return bool((await connection.execute(statement)).rowcount)


CHANNEL = "aerotask_entries"
"""Channel on which commits with new entries notify workers."""


async def notify_indexers(connection: AsyncConnection) -> None:
    """Notifies workers of new entries when this transaction commits."""
    await connection.execute(select(func.pg_notify(CHANNEL, "")))


def lane_of(count: int) -> IndexLane:
    """The lane of files of which so many arrive together."""
    return IndexLane.SINGLE if count <= 1 else IndexLane.BULK
