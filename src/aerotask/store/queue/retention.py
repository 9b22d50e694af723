"""Queries of the sweeps: what has expired, what is old, and which blobs are still named."""

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
from aerotask.store.queue.cancel import ClearedTasks, remove_tasks


async def remove_expired_artifacts(
    connection: AsyncConnection, *, clock_offset_s: int, at_most: int
) -> list[str]:
    """Remove artifacts whose time has come; the blobs that nothing of theirs names any more."""
    due = (
        select(Artifact.task_id)
        .where(Artifact.expires_at <= tx_now(plus_s=clock_offset_s))
        .limit(at_most)
        .with_for_update(skip_locked=True)
    )
    gone = delete(Artifact).where(Artifact.task_id.in_(due)).returning(Artifact.blob_key)
    return list((await connection.execute(gone)).scalars())


async def remove_old_tasks(
    connection: AsyncConnection, *, retention_days: int, clock_offset_s: int, at_most: int
) -> ClearedTasks:
    """Remove tasks that ended more than `retention_days` ago."""
    horizon = tx_now(plus_s=clock_offset_s - retention_days * DAY_S)
    ended_long_ago = (in_states(TERMINAL), Task.finished_at < horizon)
    # Said of the locked row too: somebody may retry the task between the look and the lock.
    return await remove_tasks(connection, ended_long_ago, at_most=at_most)


async def remove_old_idempotency_keys(
    connection: AsyncConnection, *, clock_offset_s: int, at_most: int
) -> int:
    """Remove idempotency keys that are older than a day; how many."""
    old = (
        select(IdempotencyKey.caller, IdempotencyKey.key)
        .where(IdempotencyKey.created_at < tx_now(plus_s=clock_offset_s - DAY_S))
        .limit(at_most)
        .with_for_update(skip_locked=True)
    )
    which = tuple_(IdempotencyKey.caller, IdempotencyKey.key).in_(old)
    return (await connection.execute(delete(IdempotencyKey).where(which))).rowcount


async def hold_names(connection: AsyncConnection, blob_keys: Sequence[str]) -> set[str]:
    """Make sure that these blobs stay until this transaction, which is to name them too, has ended.

    Returns:
        Those that nothing names any more, and that must therefore not be named again.
    """
    await locks.take_shared(connection, LockSpace.BLOBS)
    return set(blob_keys) - await named_among(connection, blob_keys)


async def named_among(connection: AsyncConnection, blob_keys: Sequence[str]) -> set[str]:
    """Those of the blobs that some row needs: an entry, a derivative, an artifact, an active task's input."""
    rows: Result[str] = await connection.execute(_NAMED_AMONG, {"blob_keys": list(blob_keys)})
    return set(rows.scalars())


# One array and not a parameter for each: a task may have a hundred thousand inputs.
_KEYS = any_(bindparam("blob_keys", type_=ARRAY(Text)))
_NAMED_AMONG: CompoundSelect[str] = union_all(
    select(Entry.blob_key).where(Entry.blob_key == _KEYS),
    select(Artifact.blob_key).where(Artifact.blob_key == _KEYS),
    select(Derivative.blob_key).where(Derivative.blob_key == _KEYS),
    select(TaskInput.blob_key)
    .join(Task, Task.id == TaskInput.task_id)
    .where(TaskInput.blob_key == _KEYS, in_states(ACTIVE)),
)
