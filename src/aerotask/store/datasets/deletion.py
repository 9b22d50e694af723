"""Queries that take deleted datasets and organizations apart, a bounded piece at a time."""

from __future__ import annotations

from typing import TypeAlias

from sqlalchemy import ColumnElement, Text, delete, exists, func, literal, select, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.db.models import Dataset, Entry, Organization, Task, in_states
from aerotask.domain.ids import DatasetId, OrgId
from aerotask.domain.states import ACTIVE, TaskState
from aerotask.store.queue.cancel import CANCEL_CHANNEL
from aerotask.store.queue.clear import ClearedTasks, remove_tasks
from aerotask.store.queue.transitions import move

Which: TypeAlias = ColumnElement[bool]
"""The tasks of some datasets."""


def in_dataset(dataset_id: DatasetId) -> Which:
    """The tasks of one dataset."""
    return Task.dataset_id == dataset_id


def in_org(org_id: OrgId) -> Which:
    """The tasks of an organization."""
    return Task.org_id == org_id


async def cancel_tasks(connection: AsyncConnection, which: Which, *, by: str) -> int:
    """Cancel the active ones of these tasks, whose dataset is deleted; how many. Workers are told with the commit."""
    # Their own names are free again at once, though their rows stay for a moment.
    await connection.execute(update(Task).where(which, Task.unique_id.is_not(None)).values(unique_id=None))
    statement = move(TaskState.DELETED, actor=by, reason="dataset deleted").where(which, in_states(ACTIVE))
    ended = (await connection.execute(statement.returning(Task.id, Task.attempt))).all()
    if ended:
        each = func.unnest(literal([f"{task_id}:{attempt}" for task_id, attempt in ended], ARRAY(Text)))
        await connection.execute(select(func.pg_notify(CANCEL_CHANNEL, each)))
    return len(ended)


async def find_deleted(connection: AsyncConnection, *, at_most: int) -> list[DatasetId]:
    """Datasets that are to be removed, the longest deleted first."""
    query = (
        select(Dataset.id).where(Dataset.deleted_at.is_not(None)).order_by(Dataset.deleted_at).limit(at_most)
    )
    return [DatasetId(dataset_id) for dataset_id in (await connection.execute(query)).scalars()]


async def remove_some_tasks(
    connection: AsyncConnection, dataset_id: DatasetId, *, at_most: int
) -> ClearedTasks:
    """Remove some of the dataset's tasks with their logs and artifacts."""
    return await remove_tasks(connection, [Task.dataset_id == dataset_id], max_count=at_most)


async def remove_some_entries(connection: AsyncConnection, dataset_id: DatasetId, *, at_most: int) -> int:
    """Remove some of the dataset's entries; how many. Their blobs are left to the sweep of orphans."""
    some = select(Entry.id).where(Entry.dataset_id == dataset_id).limit(at_most)
    return (await connection.execute(delete(Entry).where(Entry.id.in_(some)))).rowcount


async def remove_dataset(connection: AsyncConnection, dataset_id: DatasetId) -> None:
    """Remove the row of an emptied dataset, with whatever has slipped in since."""
    await connection.execute(delete(Dataset).where(Dataset.id == dataset_id, Dataset.deleted_at.is_not(None)))


async def remove_empty_orgs(connection: AsyncConnection) -> int:
    """Remove deleted organizations that have no dataset any more; how many."""
    left = exists().where(Dataset.org_id == Organization.id)
    statement = delete(Organization).where(Organization.deleted_at.is_not(None), ~left)
    return (await connection.execute(statement)).rowcount
