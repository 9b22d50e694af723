"""Queries that remove deleted datasets and organizations in batches."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Text, delete, exists, func, literal, select, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.db.models import Dataset, Entry, Organization, Task, in_states
from aerotask.domain.ids import DatasetId, OrgId
from aerotask.domain.states import ACTIVE, TaskState
from aerotask.store.queue.cancel import CANCEL_CHANNEL
from aerotask.store.queue.clear import ClearedTasks, remove_tasks
from aerotask.store.queue.transitions import move


def in_dataset(dataset_id: DatasetId) -> ColumnElement[bool]:
    """Condition for the tasks of a dataset."""
    return Task.dataset_id == dataset_id


def in_org(org_id: OrgId) -> ColumnElement[bool]:
    """Condition for the tasks of an organization."""
    return Task.org_id == org_id


async def cancel_tasks(connection: AsyncConnection, condition: ColumnElement[bool], *, actor: str) -> int:
    """Cancels the active ones of these tasks, whose dataset is deleted; returns their number.

    Workers are notified with the commit.
    """
    # Frees the unique ids at once, although the rows are removed later.
    await connection.execute(
        update(Task).where(condition, Task.unique_id.is_not(None)).values(unique_id=None)
    )
    statement = move(TaskState.DELETED, actor=actor, reason="dataset deleted").where(
        condition, in_states(ACTIVE)
    )
    cancelled = (await connection.execute(statement.returning(Task.id, Task.attempt))).all()
    if cancelled:
        payloads = func.unnest(
            literal([f"{task_id}:{attempt}" for task_id, attempt in cancelled], ARRAY(Text))
        )
        await connection.execute(select(func.pg_notify(CANCEL_CHANNEL, payloads)))
    return len(cancelled)


async def find_deleted(connection: AsyncConnection, *, max_count: int) -> list[DatasetId]:
    """Datasets to remove, the longest deleted first."""
    query = (
        select(Dataset.id)
        .where(Dataset.deleted_at.is_not(None))
        .order_by(Dataset.deleted_at)
        .limit(max_count)
    )
    return [DatasetId(dataset_id) for dataset_id in (await connection.execute(query)).scalars()]


async def remove_some_tasks(
    connection: AsyncConnection, dataset_id: DatasetId, *, max_count: int
) -> ClearedTasks:
    """Removes a batch of the dataset's tasks with their logs and artifacts."""
    return await remove_tasks(connection, [Task.dataset_id == dataset_id], max_count=max_count)


async def remove_some_entries(connection: AsyncConnection, dataset_id: DatasetId, *, max_count: int) -> int:
    """Removes a batch of the dataset's entries; returns their number. Maintenance removes the orphan blobs."""
    some = select(Entry.id).where(Entry.dataset_id == dataset_id).limit(max_count)
    return (await connection.execute(delete(Entry).where(Entry.id.in_(some)))).rowcount


async def remove_dataset(connection: AsyncConnection, dataset_id: DatasetId) -> None:
    """Removes the row of an emptied dataset, with anything that was added since."""
    await connection.execute(delete(Dataset).where(Dataset.id == dataset_id, Dataset.deleted_at.is_not(None)))


async def remove_empty_orgs(connection: AsyncConnection) -> int:
    """Removes deleted organizations without datasets; returns their number."""
    has_datasets = exists().where(Dataset.org_id == Organization.id)
    statement = delete(Organization).where(Organization.deleted_at.is_not(None), ~has_datasets)
    return (await connection.execute(statement)).rowcount
