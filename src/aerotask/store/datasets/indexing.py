"""Queries that store the metadata of entries, and that mark entries to be indexed again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import and_, any_, bindparam, select, text, update
from sqlalchemy.dialects.postgresql import ARRAY, INTERVAL, JSONB
from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.db.clock import db_now
from aerotask.db.models import Entry, PathText
from aerotask.domain.ids import DatasetId
from aerotask.store.datasets.index_queue import IndexLane, UnindexedEntry, notify_indexers, org_of

FIRST_RETRY_S = 3600.0
"""After it, an entry that was given up is read again."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """Metadata extracted from an entry's content."""

    type: str
    properties: dict[str, Any]
    point_geom: dict[str, Any] | None = None
    polygon_geom: dict[str, Any] | None = None
    lacks_overviews: bool = False
    """Whether the entry is a raster whose overviews are to be made next."""


_SET_METADATA = """
    type = found.type, properties = found.properties, point_geom = found.point_geom,
    polygon_geom = found.polygon_geom, indexed = true, index_token = NULL, index_attempts = 0
"""
_LANE_AFTER = f"""
    CASE WHEN found.lacks_overviews THEN {int(IndexLane.OVERVIEWS)} ELSE {int(IndexLane.SINGLE)} END
"""
_FINISH = text(f"""
    UPDATE entries SET {_SET_METADATA}, index_lane = {_LANE_AFTER}, index_due_at = clock_timestamp()
    FROM jsonb_to_recordset(:rows) AS found(id uuid, token uuid, type text, properties jsonb, point_geom jsonb,
                                            polygon_geom jsonb, lacks_overviews boolean)
    WHERE entries.id = found.id AND entries.index_token = found.token
""").bindparams(bindparam("rows", type_=JSONB))  # noqa: S608  our own constants


async def finish_all(connection: AsyncConnection, indexed: Sequence[tuple[UnindexedEntry, Metadata]]) -> int:
    """Stores the metadata of claimed entries whose content hasn't been replaced since; returns their number."""
    if not indexed:
        return 0
    rows = [
        {"id": str(entry.id), "token": str(entry.token), **asdict(metadata)} for entry, metadata in indexed
    ]
    if any(metadata.lacks_overviews for _, metadata in indexed):
        await notify_indexers(connection)
    return (await connection.execute(_FINISH, {"rows": rows})).rowcount


async def give_up(
    connection: AsyncConnection, entry: UnindexedEntry, metadata: Metadata, *, retry_s: float
) -> bool:
    """Stores why a claimed entry's content could not be read; it is read again after `retry_s`.

    Returns:
        False if the content has been replaced since the claim.
    """
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
            index_lane=int(IndexLane.GIVEN_UP),
            index_due_at=db_now(plus_s=retry_s),
        )
    )
    return bool((await connection.execute(statement)).rowcount)


_UPDATE_METADATA = text(f"""
    UPDATE entries SET {_SET_METADATA},
           index_lane = CASE WHEN found.given_up THEN {int(IndexLane.GIVEN_UP)} ELSE {_LANE_AFTER} END,
           index_due_at = CASE WHEN found.given_up THEN clock_timestamp() + :retry ELSE clock_timestamp() END
    FROM jsonb_to_recordset(:rows) AS found(path text, blob_key text, type text, properties jsonb,
                                            point_geom jsonb, polygon_geom jsonb, given_up boolean,
                                            lacks_overviews boolean)
    WHERE entries.dataset_id = :dataset_id AND entries.path = found.path COLLATE "C"
      AND entries.blob_key = found.blob_key
""").bindparams(  # noqa: S608  as above
    bindparam("rows", type_=JSONB),
    bindparam("dataset_id", type_=Entry.dataset_id.type),
    bindparam("retry", type_=INTERVAL),
)


async def update_metadata(
    connection: AsyncConnection, dataset_id: DatasetId, rows: Sequence[Mapping[str, Any]]
) -> int:
    """Updates the metadata of entries that still have the content that was read; returns their number.

    Each row has `path`, `blob_key`, `type`, `properties`, `point_geom`, `polygon_geom`, `given_up`: that the content
    could not be read, and is to be read again by the indexer, and `lacks_overviews`.
    """
    if any(row["lacks_overviews"] for row in rows):
        await notify_indexers(connection)
    values = {"rows": list(rows), "dataset_id": dataset_id, "retry": timedelta(seconds=FIRST_RETRY_S)}
    return (await connection.execute(_UPDATE_METADATA, values)).rowcount


async def index_again(
    connection: AsyncConnection,
    dataset_id: DatasetId,
    paths: Sequence[str],
    *,
    lane: IndexLane = IndexLane.SINGLE,
) -> None:
    """Marks the files at these paths as unindexed; the results of current claims are discarded."""
    values = {"in_dataset": dataset_id, "paths": list(paths), "lane": int(lane)}
    await connection.execute(_INDEX_AGAIN, values)


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
    .values(
        indexed=False,
        index_token=None,
        index_attempts=0,
        index_due_at=db_now(),
        index_lane=bindparam("lane", type_=Entry.index_lane.type),
        index_org_id=org_of(Entry.dataset_id),
    )
)
_CONTENTS_AT = select(Entry.path, Entry.blob_key).where(_FILES_AT)
