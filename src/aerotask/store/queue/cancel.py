"""Cancel of an active task, and deletion of an ended one."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.db.models import Artifact, Task
from aerotask.domain.ids import DatasetId, TaskId
from aerotask.domain.states import TaskState
from aerotask.store.queue.transitions import move

CANCEL_CHANNEL = "aerotask_cancelled"
"""Postgres channel that notifies workers of a cancelled attempt (`Lease.name`) when the cancel commits."""


@dataclass(frozen=True, slots=True)
class Deletion:
    """Result of a deletion: whether the task changed its state, and the blobs of its removed artifacts."""

    changed: bool
    blob_keys: tuple[str, ...] = ()


async def cancel_or_delete(
    connection: AsyncConnection, dataset_id: DatasetId, task_id: TaskId, *, actor: str
) -> Deletion | None:
    """Move a task to Deleted and notify workers; None if the dataset has no such task.

    A task that is already Deleted stays as it is.
    """
    statement = move(TaskState.DELETED, actor=actor, reason="deleted").where(
        Task.id == task_id, Task.dataset_id == dataset_id
    )
    attempt = (await connection.execute(statement.returning(Task.attempt))).scalar_one_or_none()
    if attempt is None:
        existing = select(Task.id).where(Task.id == task_id, Task.dataset_id == dataset_id)
        return Deletion(changed=False) if (await connection.execute(existing)).first() else None
    await connection.execute(select(func.pg_notify(CANCEL_CHANNEL, f"{task_id}:{attempt}")))
    artifacts = delete(Artifact).where(Artifact.task_id == task_id).returning(Artifact.blob_key)
    return Deletion(changed=True, blob_keys=tuple((await connection.execute(artifacts)).scalars()))
