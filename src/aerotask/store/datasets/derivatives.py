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
from aerotask.db.models import Derivative, Entry, PathText, Task
from aerotask.derivatives.kinds import OVERVIEWS, DerivativeKind
from aerotask.derivatives.sources import OWNED_SIDES, TEXTURE_SUFFIXES, TEXTURED_SUFFIXES, textures_begin_with
from aerotask.domain.ids import DatasetId, EntryId, TaskId
from aerotask.domain.paths import depth
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


async def find_textures(
    connection: AsyncConnection, dataset_id: DatasetId, path: str
) -> list[tuple[str, str]]:
    """Path and hash of the files in the mesh's folder whose names begin as its textures' do; none of other entries."""
    start = textures_begin_with(path)
    if start is None:
        return []
    query = select(Entry.path, Entry.sha256).where(
        Entry.dataset_id == dataset_id,
        Entry.path > start,
        Entry.path < start + chr(0x10FFFF),
        Entry.depth == depth(path),
        Entry.blob_key.is_not(None),
    )
    return [(each, sha256) for each, sha256 in await connection.execute(query)]


@dataclass(frozen=True, slots=True)
class StoredContent:
    """Blob key, hash and length of a stored content."""

    blob_key: str
    sha256: str
    size_bytes: int


# `derivatives.sources.source_key` of an entry as it is now: its own hash if it has no sidecar files.
_SOURCE_KEY = """
    coalesce((
        SELECT encode(sha256(convert_to(
            entries.sha256 || string_agg(' ' || beside.label || ':' || beside.sha256, ''
                                         ORDER BY beside.label COLLATE "C", beside.sha256 COLLATE "C"),
            'UTF8')), 'hex')
        FROM (
            SELECT owned.side AS label, named.sha256
            FROM unnest(CAST(:owners AS text[]), CAST(:sides AS text[])) AS owned(owner, side), entries AS named
            WHERE lower(right(entries.path, length(owned.owner) + 1)) = '.' || owned.owner
              AND named.dataset_id = entries.dataset_id AND named.blob_key IS NOT NULL
              AND named.path COLLATE "C" = ANY (ARRAY[
                    left(entries.path, -length(owned.owner)) || owned.side,
                    left(entries.path, -length(owned.owner)) || upper(owned.side)])
            UNION ALL
            SELECT substr(image.path, length(textured.start) + 1), image.sha256
            FROM (SELECT left(entries.path, -length(each) - 1) AS start
                  FROM unnest(CAST(:textured AS text[])) AS each
                  WHERE lower(right(entries.path, length(each) + 1)) = '.' || each) AS textured, entries AS image
            WHERE image.dataset_id = entries.dataset_id AND image.blob_key IS NOT NULL
              AND image.path COLLATE "C" > textured.start AND image.path COLLATE "C" < textured.start || chr(1114111)
              AND position('/' in substr(image.path, length(textured.start) + 1)) = 0
              AND lower(substring(image.path from '[.]([^.]*)$')) = ANY (CAST(:textures AS text[]))
        ) AS beside
    ), entries.sha256)
"""
_SIDE_FILES = {
    "owners": [owner for owner, _ in OWNED_SIDES],
    "sides": [side for _, side in OWNED_SIDES],
    "textured": list(TEXTURED_SUFFIXES),
    "textures": list(TEXTURE_SUFFIXES),
}

# Overviews depend on the pixels alone, and not on the georeference that side files give.
_KEY_OF_KIND = f"CASE WHEN derivatives.kind = '{OVERVIEWS}' THEN entries.sha256 ELSE {_SOURCE_KEY} END"

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
            text(f"derivatives.source_key = {_KEY_OF_KIND}"),
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
    """The entry at `path`, and the derivatives of those kinds made from its content and its side files', by kind."""
    bound = {"dataset_id": dataset_id, "path": path, "kinds": list(kinds), **_SIDE_FILES}
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
    connection: AsyncConnection,
    dataset_id: DatasetId,
    contents: Collection[str],
    *,
    since_submit_of: TaskId | None = None,
) -> Mapping[str, list[tuple[str, str]]]:
    """Kind and builder of every derivative of these contents in the dataset, by source.

    With a task, only of those that were made since it was submitted.
    """
    query = select(Derivative.source_key, Derivative.kind, Derivative.builder).where(
        Derivative.dataset_id == dataset_id,
        Derivative.content_sha256 == any_(bindparam("contents", type_=ARRAY(Text))),
    )
    if since_submit_of is not None:
        submitted_at = select(Task.created_at).where(Task.id == since_submit_of).scalar_subquery()
        query = query.where(Derivative.created_at >= submitted_at)
    by_source: dict[str, list[tuple[str, str]]] = {}
    for source_key, kind, builder in await connection.execute(query, {"contents": sorted(set(contents))}):
        by_source.setdefault(source_key, []).append((kind, builder))
    return by_source


_REMOVE_UNUSED = text(f"""
    DELETE FROM derivatives WHERE (dataset_id, source_key, kind) IN (
        SELECT derivatives.dataset_id, derivatives.source_key, derivatives.kind FROM derivatives
        WHERE derivatives.created_at < now() + make_interval(secs => :plus_s) AND (NOT EXISTS (
            SELECT FROM entries
            WHERE entries.dataset_id = derivatives.dataset_id AND entries.sha256 = derivatives.content_sha256
              AND entries.blob_key IS NOT NULL AND derivatives.source_key = {_KEY_OF_KIND})
          OR (derivatives.kind = '{OVERVIEWS}' AND EXISTS (
            SELECT FROM derivatives AS cog
            WHERE cog.dataset_id = derivatives.dataset_id AND cog.source_key = derivatives.source_key
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
        **_SIDE_FILES,
        "plus_s": clock_offset_s - older_than.total_seconds(),
        "max_count": max_count,
    }
    return list((await connection.execute(_REMOVE_UNUSED, values)).scalars())
