"""References to stored blobs: every blob that a row needs, with the length and hash that the row gives."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from sqlalchemy import BigInteger, cast, func, null, select, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.db.models import Artifact, Derivative, Entry, Task, TaskInput, in_states
from aerotask.domain.states import ACTIVE

FETCHED_ROWS = 1000


@dataclass(frozen=True, slots=True)
class ReferencedBlob:
    """A blob that a row needs; `size_bytes` is None if only the input of an active task names it."""

    key: str
    sha256: str
    size_bytes: int | None


_REFERENCES = union_all(
    select(Entry.blob_key.label("key"), Entry.sha256.label("sha256"), Entry.size_bytes.label("size")).where(
        Entry.blob_key.is_not(None)
    ),
    select(Artifact.blob_key, Artifact.sha256, Artifact.size_bytes),
    select(Derivative.blob_key, Derivative.sha256, Derivative.size_bytes),
    select(TaskInput.blob_key, TaskInput.sha256, cast(null(), BigInteger))
    .join(Task, Task.id == TaskInput.task_id)
    .where(in_states(ACTIVE)),
).subquery()
# Several rows may reference one blob.
_REFERENCED = (
    select(_REFERENCES.c.key, func.max(_REFERENCES.c.sha256), func.max(_REFERENCES.c.size))
    .group_by(_REFERENCES.c.key)
    .order_by(_REFERENCES.c.key)
)


async def stream_referenced(connection: AsyncConnection) -> AsyncIterator[ReferencedBlob]:
    """Every referenced blob once, in the order of the keys; the connection must be in a transaction."""
    async with connection.stream(_REFERENCED, execution_options={"yield_per": FETCHED_ROWS}) as rows:
        async for key, sha256, size_bytes in rows:
            yield ReferencedBlob(key, sha256, size_bytes)
