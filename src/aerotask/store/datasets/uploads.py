"""Queries for resumable uploads."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import any_, bindparam, delete, func, insert, select, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.db.clock import db_now, tx_now
from aerotask.db.engine import AnyRow
from aerotask.db.models import Upload
from aerotask.domain.ids import DatasetId, UploadId, UserId


@dataclass(frozen=True, slots=True)
class UploadRow:
    """A resumable upload as announced."""

    id: UploadId
    dataset_id: DatasetId
    user_id: UserId | None
    path: str
    size_bytes: int
    client_metadata: str
    expires_at: datetime
    finished_at: datetime | None


_COLUMNS = (
    Upload.id,
    Upload.dataset_id,
    Upload.user_id,
    Upload.path,
    Upload.size_bytes,
    Upload.client_metadata.label("client_metadata"),
    Upload.expires_at,
    Upload.finished_at,
)


def _row(row: AnyRow) -> UploadRow:
    return UploadRow(
        UploadId(row.id),
        DatasetId(row.dataset_id),
        None if row.user_id is None else UserId(row.user_id),
        row.path,
        row.size_bytes,
        row.client_metadata,
        row.expires_at,
        row.finished_at,
    )


async def add(  # noqa: PLR0913  the announced properties
    connection: AsyncConnection,
    *,
    upload_id: UploadId,
    dataset_id: DatasetId,
    user_id: UserId | None,
    path: str,
    size_bytes: int,
    client_metadata: str,
    ttl_s: float,
) -> UploadRow:
    """Inserts an upload without content yet."""
    statement = (
        insert(Upload)
        .values(
            id=upload_id,
            dataset_id=dataset_id,
            user_id=user_id,
            path=path,
            size_bytes=size_bytes,
            client_metadata=client_metadata,
            expires_at=db_now(plus_s=ttl_s),
        )
        .returning(*_COLUMNS)
    )
    return _row((await connection.execute(statement)).one())


async def find(
    connection: AsyncConnection, dataset_id: DatasetId, upload_id: UploadId, *, clock_offset_s: int
) -> UploadRow | None:
    """The dataset's upload of that id, unless it has expired."""
    query = select(*_COLUMNS).where(
        Upload.id == upload_id,
        Upload.dataset_id == dataset_id,
        Upload.expires_at > db_now(plus_s=clock_offset_s),
    )
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else _row(row)


async def count_open(connection: AsyncConnection, user_id: UserId | None) -> int:
    """Number of the user's incomplete uploads."""
    query = select(func.count()).where(Upload.user_id == user_id, Upload.finished_at.is_(None))
    return (await connection.execute(query)).scalar_one()


async def extend_expiry(
    connection: AsyncConnection, upload_id: UploadId, *, ttl_s: float
) -> UploadRow | None:
    """Extends the upload's expiry to `ttl_s` from now; None if it is removed."""
    statement = (
        update(Upload)
        .where(Upload.id == upload_id)
        .values(expires_at=db_now(plus_s=ttl_s))
        .returning(*_COLUMNS)
    )
    row = (await connection.execute(statement)).one_or_none()
    return None if row is None else _row(row)


async def finish(connection: AsyncConnection, upload_id: UploadId) -> bool:
    """Marks the upload as turned into an entry; False if it is removed or was marked before."""
    statement = (
        update(Upload)
        .where(Upload.id == upload_id, Upload.finished_at.is_(None))
        .values(finished_at=db_now())
    )
    return bool((await connection.execute(statement)).rowcount)


async def remove(connection: AsyncConnection, upload_id: UploadId) -> None:
    """Removes the upload."""
    await connection.execute(delete(Upload).where(Upload.id == upload_id))


async def remove_expired(
    connection: AsyncConnection, *, clock_offset_s: int, max_count: int
) -> list[UploadId]:
    """Removes expired uploads; returns their ids."""
    due = (
        select(Upload.id)
        .where(Upload.expires_at <= tx_now(plus_s=clock_offset_s))
        .limit(max_count)
        .with_for_update(skip_locked=True)
    )
    statement = delete(Upload).where(Upload.id.in_(due)).returning(Upload.id)
    return [UploadId(upload_id) for upload_id in (await connection.execute(statement)).scalars()]


async def unfinished_among(connection: AsyncConnection, candidates: Collection[UUID]) -> set[UUID]:
    """The ids among the candidates of uploads that still need their files."""
    is_candidate = Upload.id == any_(bindparam("candidates", type_=ARRAY(Upload.id.type)))
    query = select(Upload.id).where(is_candidate, Upload.finished_at.is_(None))
    return set((await connection.execute(query, {"candidates": list(candidates)})).scalars())
