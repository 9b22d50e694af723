"""Queries for what was made of a dataset's entries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, exists, select, tuple_
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.domain.ids import DatasetId
from aerotask.store.clock import db_now, tx_now
from aerotask.store.models import Derivative, Entry


@dataclass(frozen=True, slots=True)
class NewDerivative:
    """A derivative to keep, its content stored."""

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
    """A derivative as its clients see it, and the blob that holds its content."""

    kind: str
    builder: str
    blob_key: str
    size_bytes: int
    sha256: str
    properties: dict[str, Any]
    created_at: datetime


_COLUMNS = (
    Derivative.kind,
    Derivative.builder,
    Derivative.blob_key,
    Derivative.size_bytes,
    Derivative.sha256,
    Derivative.properties,
    Derivative.created_at,
)
_KEY = (Derivative.dataset_id, Derivative.source_key, Derivative.kind)


async def put(connection: AsyncConnection, made: NewDerivative) -> None:
    """Keep a derivative, in place of one of the same kind from the same source."""
    statement = upsert(Derivative).values(**asdict(made))
    fresh = {
        "builder": made.builder,
        "blob_key": made.blob_key,
        "size_bytes": made.size_bytes,
        "sha256": made.sha256,
        "properties": made.properties,
        "created_at": db_now(),
    }
    await connection.execute(statement.on_conflict_do_update(index_elements=_KEY, set_=fresh))


async def find_of(connection: AsyncConnection, dataset_id: DatasetId, source_key: str) -> list[DerivativeRow]:
    """The derivatives from that source, by kind."""
    query = (
        select(*_COLUMNS)
        .where(Derivative.dataset_id == dataset_id, Derivative.source_key == source_key)
        .order_by(Derivative.kind)
    )
    return [DerivativeRow(*row) for row in await connection.execute(query)]


async def made_in(connection: AsyncConnection, dataset_id: DatasetId) -> Mapping[str, list[tuple[str, str]]]:
    """Kind and builder of every derivative in the dataset, by its source."""
    query = select(Derivative.source_key, Derivative.kind, Derivative.builder).where(
        Derivative.dataset_id == dataset_id
    )
    made: dict[str, list[tuple[str, str]]] = {}
    for source_key, kind, builder in await connection.execute(query):
        made.setdefault(source_key, []).append((kind, builder))
    return made


async def remove_unused(
    connection: AsyncConnection, *, older_than: timedelta, clock_offset_s: int, at_most: int
) -> list[str]:
    """Remove derivatives of contents that no entry of their dataset has any more; the blobs that held them."""
    used = exists().where(
        Entry.dataset_id == Derivative.dataset_id,
        Entry.sha256 == Derivative.content_sha256,
        Entry.blob_key.is_not(None),
    )
    horizon = tx_now(plus_s=clock_offset_s - older_than.total_seconds())
    unused = (
        select(*_KEY)
        .where(Derivative.created_at < horizon, ~used)
        .limit(at_most)
        .with_for_update(skip_locked=True)
    )
    gone = delete(Derivative).where(tuple_(*_KEY).in_(unused)).returning(Derivative.blob_key)
    return list((await connection.execute(gone)).scalars())
