"""Queries for derivatives of a dataset's entries."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ARRAY, Text, and_, any_, bindparam, exists, or_, select, text
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.db.clock import db_now
from aerotask.db.models import Derivative, Entry, PathText
from aerotask.derivatives.kinds import OVERVIEWS, DerivativeKind
from aerotask.derivatives.sources import OWNED_SIDES
from aerotask.domain.ids import DatasetId, EntryId
from aerotask.store.datasets.entries import COLUMNS, EntryRow, entry_row
from aerotask.store.json_columns import JsonColumns


@dataclass(frozen=True, slots=True)
class NewDerivative:
    """A derivative to insert, whose content is stored."""

    dataset_id: DatasetId
    source_key: str
    kind: str
    content_sha256: str
    builder: str
    blob_key: str
    size_bytes: int
    sha256: str
    properties: dict[str, Any]


@dataclass(frozen=True, slots=True)
class DerivativeRow:
    """A derivative as clients see it, with the key of its blob."""

    kind: str
    builder: str
    blob_key: str
    size_bytes: int
    sha256: str
    properties: dict[str, Any]
    created_at: datetime
    damaged: tuple[str, ...] = ()
    """JSON columns that don't have the form that they were written in, and are empty here."""


_COLUMNS = (
    Derivative.kind,
    Derivative.builder,
    Derivative.blob_key,
    Derivative.size_bytes,
    Derivative.sha256,
    Derivative.properties,
    Derivative.created_at,
)
_REPLACED = ("content_sha256", "builder", "blob_key", "size_bytes", "sha256", "properties")
_KEY = (Derivative.dataset_id, Derivative.source_key, Derivative.kind)


async def put(connection: AsyncConnection, new: Sequence[NewDerivative]) -> None:
    """Inserts derivatives or replaces those of the same source and kind; of duplicates in `new` the last one counts."""
    latest = {(each.dataset_id, each.source_key, each.kind): each for each in new}
    if not latest:
        return
    statement = upsert(Derivative)
    fresh = {name: statement.excluded[name] for name in _REPLACED} | {"created_at": db_now()}
    await connection.execute(
        statement.on_conflict_do_update(index_elements=_KEY, set_=fresh),
        [asdict(each) for each in latest.values()],
    )


_OF_SOURCE = (
    select(*_COLUMNS)
    .where(
        Derivative.dataset_id == bindparam("dataset_id", type_=Derivative.dataset_id.type),
        Derivative.source_key == bindparam("source_key"),
    )
    .order_by(Derivative.kind)
)


async def find_of(connection: AsyncConnection, dataset_id: DatasetId, source_key: str) -> list[DerivativeRow]:
    """The derivatives of the source, by kind."""
    bound = {"dataset_id": dataset_id, "source_key": source_key}
    return [_derivative(*row) for row in await connection.execute(_OF_SOURCE, bound)]


def _derivative(*values: Any) -> DerivativeRow:
    *plain, properties, created_at = values
    checked = JsonColumns()
    content = checked.mapping("properties", properties)
    return DerivativeRow(*(*plain, content, created_at, checked.damaged("derivatives", values[2])))


@dataclass(frozen=True, slots=True)
class StoredContent:
    """Blob key, hash and length of a stored content."""

    blob_key: str
    sha256: str
    size_bytes: int


_WITH_DERIVATIVES = (
    select(
        *COLUMNS,
        Derivative.kind,
        Derivative.blob_key,
        Derivative.sha256,
        Derivative.size_bytes.label("derivative_bytes"),
    )
    .outerjoin(
        Derivative,
        and_(
            Derivative.dataset_id == Entry.dataset_id,
            Derivative.source_key == Entry.sha256,
            Derivative.kind == any_(bindparam("kinds", type_=ARRAY(Text))),
        ),
    )
    .where(
        Entry.dataset_id == bindparam("dataset_id", type_=Entry.dataset_id.type),
        Entry.path == bindparam("path", type_=PathText),
    )
)


async def find_with(
    connection: AsyncConnection, dataset_id: DatasetId, path: str, kinds: Collection[str]
) -> tuple[EntryRow, dict[str, StoredContent]] | None:
    """The entry at `path`, and the derivatives of those kinds made from its content without sidecar files, by kind."""
    bound = {"dataset_id": dataset_id, "path": path, "kinds": list(kinds)}
    rows = (await connection.execute(_WITH_DERIVATIVES, bound)).all()
    if not rows:
        return None
    split = [(row[: len(COLUMNS)], row[len(COLUMNS) :]) for row in rows]
    made = {kind: StoredContent(*content) for _, (kind, *content) in split if kind is not None}
    return entry_row(*split[0][0]), made


_WITHOUT_OVERVIEWS = select(Entry.sha256, Entry.properties).where(
    Entry.id == bindparam("entry_id", type_=Entry.id.type),
    ~exists().where(
        Derivative.dataset_id == Entry.dataset_id,
        Derivative.source_key == Entry.sha256,
        or_(
            Derivative.kind == DerivativeKind.COG,
            and_(Derivative.kind == OVERVIEWS, Derivative.builder == bindparam("builder")),
        ),
    ),
)


async def content_without_overviews(
    connection: AsyncConnection, entry_id: EntryId, builder: str
) -> tuple[str, dict[str, Any]] | None:
    """The hash and the properties of the entry; None if it has a COG, overviews by this builder, or no longer exists."""
    bound = {"entry_id": entry_id, "builder": builder}
    row = (await connection.execute(_WITHOUT_OVERVIEWS, bound)).one_or_none()
    return None if row is None else (row.sha256, JsonColumns().mapping("properties", row.properties))


async def list_by_source(
    connection: AsyncConnection, dataset_id: DatasetId, contents: Collection[str]
) -> Mapping[str, list[tuple[str, str]]]:
    """Kind and builder of every derivative of these contents in the dataset, by source."""
    query = select(Derivative.source_key, Derivative.kind, Derivative.builder).where(
        Derivative.dataset_id == dataset_id,
        Derivative.content_sha256 == any_(bindparam("contents", type_=ARRAY(Text))),
    )
    by_source: dict[str, list[tuple[str, str]]] = {}
    for source_key, kind, builder in await connection.execute(query, {"contents": sorted(set(contents))}):
        by_source.setdefault(source_key, []).append((kind, builder))
    return by_source


# `derivatives.sources.source_key` of an entry as it is now: its own hash if it has no sidecar files.
_SOURCE_KEY = """
    coalesce((
        SELECT encode(sha256(convert_to(
            entries.sha256 || string_agg(' ' || owned.side || ':' || beside.sha256, ''
                                         ORDER BY owned.side COLLATE "C", beside.sha256 COLLATE "C"),
            'UTF8')), 'hex')
        FROM unnest(CAST(:owners AS text[]), CAST(:sides AS text[])) AS owned(owner, side), entries AS beside
        WHERE lower(right(entries.path, length(owned.owner) + 1)) = '.' || owned.owner
          AND beside.dataset_id = entries.dataset_id AND beside.blob_key IS NOT NULL
          AND beside.path COLLATE "C" = ANY (ARRAY[
                left(entries.path, -length(owned.owner)) || owned.side,
                left(entries.path, -length(owned.owner)) || upper(owned.side)])
    ), entries.sha256)
"""
_REMOVE_UNUSED = text(f"""
    DELETE FROM derivatives WHERE (dataset_id, source_key, kind) IN (
        SELECT made.dataset_id, made.source_key, made.kind FROM derivatives AS made
        WHERE made.created_at < now() + make_interval(secs => :plus_s) AND (NOT EXISTS (
            SELECT FROM entries
            WHERE entries.dataset_id = made.dataset_id AND entries.sha256 = made.content_sha256
              AND entries.blob_key IS NOT NULL AND made.source_key = {_SOURCE_KEY})
          OR (made.kind = '{OVERVIEWS}' AND EXISTS (
            SELECT FROM derivatives AS cog
            WHERE cog.dataset_id = made.dataset_id AND cog.source_key = made.source_key
              AND cog.kind = '{DerivativeKind.COG}')))
        LIMIT :max_count FOR UPDATE SKIP LOCKED)
    RETURNING blob_key
""")  # noqa: S608  both parts are here


async def remove_unused(
    connection: AsyncConnection, *, older_than: timedelta, clock_offset_s: int, max_count: int
) -> list[str]:
    """Removes derivatives whose source is no longer an entry of the dataset; returns the keys of their blobs.

    So are the overviews of a raster that has a COG by now, which has them too.

    A change to a sidecar file changes the source too.
    """
    values = {
        "owners": [owner for owner, _ in OWNED_SIDES],
        "sides": [side for _, side in OWNED_SIDES],
        "plus_s": clock_offset_s - older_than.total_seconds(),
        "max_count": max_count,
    }
    return list((await connection.execute(_REMOVE_UNUSED, values)).scalars())
