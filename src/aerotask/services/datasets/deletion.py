"""Removal of deleted datasets and organizations and of expired uploads.

Rows are removed in batches, each in its own transaction, so that a dataset of a million entries blocks no other
work and a crash loses no progress.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from uuid import UUID

from sqlalchemy import ColumnElement

from aerotask.blobs.blob_store import BlobStore
from aerotask.blobs.partial_files import PartialFiles
from aerotask.db.engine import Database
from aerotask.domain.access import Caller
from aerotask.domain.ids import DatasetId
from aerotask.store.datasets import deletion, uploads
from aerotask.store.queue.clear import TASKS_PER_TRANSACTION

DATASETS = 100
ENTRIES = 5000
UPLOADS = 500


async def cancel_tasks(db: Database, caller: Caller, condition: ColumnElement[bool]) -> None:
    """Cancels the active tasks of a dataset or organization that has just been deleted."""
    # After the commit that hides the dataset: no new task can follow, and a worker that is about to change the
    # dataset can't deadlock with the deletion.
    async with db.begin() as connection:
        await deletion.cancel_tasks(connection, condition, actor=caller.display_name)


async def remove_deleted(db: Database, blobs: BlobStore) -> Mapping[str, int]:
    """Removes the rows of deleted datasets, then of organizations without datasets; returns the number of each."""
    async with db.read() as connection:
        deleted = await deletion.find_deleted(connection, max_count=DATASETS)
    for dataset_id in deleted:
        await _remove_dataset(db, blobs, dataset_id)
    async with db.begin() as connection:
        orgs = await deletion.remove_empty_orgs(connection)
    return {"datasets": len(deleted), "organizations": orgs}


async def _remove_dataset(db: Database, blobs: BlobStore, dataset_id: DatasetId) -> None:
    async with db.begin() as connection:
        # Tasks submitted during the deletion, or left over from a crash during it.
        await deletion.cancel_tasks(connection, deletion.in_dataset(dataset_id), actor="sweep")
    removed = TASKS_PER_TRANSACTION
    while removed == TASKS_PER_TRANSACTION:
        async with db.begin() as connection:
            cleared = await deletion.remove_some_tasks(
                connection, dataset_id, max_count=TASKS_PER_TRANSACTION
            )
        for key in cleared.blob_keys:
            await blobs.remove(key)
        removed = cleared.tasks
    removed = ENTRIES
    while removed == ENTRIES:
        async with db.begin() as connection:
            removed = await deletion.remove_some_entries(connection, dataset_id, max_count=ENTRIES)
    async with db.begin() as connection:
        await deletion.remove_dataset(connection, dataset_id)


async def remove_expired_uploads(
    db: Database, files: PartialFiles, *, clock_offset_s: int, grace: timedelta
) -> Mapping[str, int]:
    """Removes expired uploads with their files, and files without an upload; returns the number of each."""
    expired, removed = 0, UPLOADS
    while removed == UPLOADS:
        async with db.begin() as connection:
            ids = await uploads.remove_expired(connection, clock_offset_s=clock_offset_s, max_count=UPLOADS)
        for upload_id in ids:
            await files.remove(str(upload_id))
        removed = len(ids)
        expired += removed
    return {"expired": expired, "left_over": await remove_left_over(db, files, grace)}


async def remove_left_over(db: Database, files: PartialFiles, grace: timedelta) -> int:
    """Removes files whose upload was removed with its dataset, or became an entry before a crash.

    They need no grace time: the row of an upload is older than its file.
    """
    idle = await asyncio.to_thread(files.idle_keys, grace)
    async with db.read() as connection:
        needed = await uploads.unfinished_among(connection, [UUID(key) for key in idle])
    unneeded = [key for key in idle if UUID(key) not in needed]
    for key in unneeded:
        await files.remove(key)
    return len(unneeded)
