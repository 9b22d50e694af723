"""Removal of tasks from the database, with their logs, inputs and artifacts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnExpressionArgument, any_, bindparam, delete, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.db.models import Artifact, Task, in_states
from aerotask.domain.ids import DatasetId
from aerotask.domain.states import TERMINAL

TASKS_PER_TRANSACTION = 20
"""Removed tasks per transaction: each may have a log of ten thousand lines."""


@dataclass(frozen=True, slots=True)
class ClearedTasks:
    """The number of removed tasks, and the blobs of their artifacts."""

    tasks: int
    blob_keys: tuple[str, ...]


async def clear_ended(
    connection: AsyncConnection,
    dataset_id: DatasetId,
    *,
    tool_id: str | None,
    max_count: int = TASKS_PER_TRANSACTION,
) -> ClearedTasks:
    """Remove some of the dataset's ended tasks, of one tool or of all."""
    ended: list[ColumnExpressionArgument[bool]] = [Task.dataset_id == dataset_id, in_states(TERMINAL)]
    if tool_id is not None:
        ended.append(Task.tool_id == tool_id)
    return await remove_tasks(connection, ended, max_count=max_count)


async def remove_tasks(
    connection: AsyncConnection, conditions: Sequence[ColumnExpressionArgument[bool]], *, max_count: int
) -> ClearedTasks:
    """Remove some of the tasks that meet every condition."""
    # The conditions are checked on the locked rows: a task may be retried between the query and the lock.
    found = select(Task.id).where(*conditions).limit(max_count).with_for_update()
    ids = list((await connection.execute(found)).scalars())
    if not ids:
        return ClearedTasks(0, ())
    keys = tuple((await connection.execute(_REMOVE_ARTIFACTS, {"ids": ids})).scalars())
    await connection.execute(_REMOVE_TASKS, {"ids": ids})
    return ClearedTasks(len(ids), keys)


# One array instead of one parameter per task: Postgres allows only 32,767 parameters.
_IDS = any_(bindparam("ids", type_=ARRAY(Task.id.type)))
_REMOVE_ARTIFACTS = delete(Artifact).where(Artifact.task_id == _IDS).returning(Artifact.blob_key)
_REMOVE_TASKS = delete(Task).where(Task.id == _IDS)
