"""Retention: removal of expired artifacts, old tasks and idempotency keys, and blobs that are still referenced."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import CompoundSelect, Result, Text, any_, bindparam, delete, select, tuple_, union_all
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.db import locks
from aerotask.db.clock import DAY_S, tx_now
from aerotask.db.locks import LockSpace
from aerotask.db.models import Artifact, Derivative, Entry, IdempotencyKey, Task, TaskInput, in_states
from aerotask.domain.states import ACTIVE, TERMINAL
from aerotask.store.queue.clear import ClearedTasks, remove_tasks


async def remove_expired_artifacts(
    connection: AsyncConnection, *, clock_offset_s: int, max_count: int
) -> list[str]:
    """Remove expired artifacts; the keys of their blobs."""
    due = (
        select(Artifact.task_id)
        .where(Artifact.expires_at <= tx_now(plus_s=clock_offset_s))
        .limit(max_count)
        .with_for_update(skip_locked=True)
    )
    expired = delete(Artifact).where(Artifact.task_id.in_(due)).returning(Artifact.blob_key)
    return list((await connection.execute(expired)).scalars())


async def remove_old_tasks(
    connection: AsyncConnection, *, retention_days: int, clock_offset_s: int, max_count: int
) -> ClearedTasks:
    """Remove tasks that ended more than `retention_days` ago."""
    horizon = tx_now(plus_s=clock_offset_s - retention_days * DAY_S)
    ended_long_ago = (in_states(TERMINAL), Task.finished_at < horizon)
    return await remove_tasks(connection, ended_long_ago, max_count=max_count)


async def remove_old_idempotency_keys(
    connection: AsyncConnection, *, clock_offset_s: int, max_count: int
) -> int:
    """Remove idempotency keys that are older than a day; the number of them."""
    old = (
        select(IdempotencyKey.caller, IdempotencyKey.key)
        .where(IdempotencyKey.created_at < tx_now(plus_s=clock_offset_s - DAY_S))
        .limit(max_count)
        .with_for_update(skip_locked=True)
    )
    selected = tuple_(IdempotencyKey.caller, IdempotencyKey.key).in_(old)
    return (await connection.execute(delete(IdempotencyKey).where(selected))).rowcount


async def retain_blobs(connection: AsyncConnection, blob_keys: Sequence[str]) -> set[str]:
    """Keep maintenance from removing these blobs until this transaction, which will reference them, has ended.

    Returns:
        Those that no row references any more; they may be removed already and must not be referenced again.
    """
    await locks.take_shared(connection, LockSpace.BLOBS)
    return set(blob_keys) - await referenced_among(connection, blob_keys)


async def referenced_among(connection: AsyncConnection, blob_keys: Sequence[str]) -> set[str]:
    """Those of the blobs that an entry, a derivative, an artifact or an active task's input references."""
    rows: Result[str] = await connection.execute(_REFERENCED_AMONG, {"blob_keys": list(blob_keys)})
    return set(rows.scalars())


# One array instead of one parameter per key: a task may have a hundred thousand inputs.
_KEYS = any_(bindparam("blob_keys", type_=ARRAY(Text)))
_REFERENCED_AMONG: CompoundSelect[str] = union_all(
    select(Entry.blob_key).where(Entry.blob_key == _KEYS),
    select(Artifact.blob_key).where(Artifact.blob_key == _KEYS),
    select(Derivative.blob_key).where(Derivative.blob_key == _KEYS),
    select(TaskInput.blob_key)
    .join(Task, Task.id == TaskInput.task_id)
    .where(TaskInput.blob_key == _KEYS, in_states(ACTIVE)),
)
