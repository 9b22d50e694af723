"""The sweeps of what has been deleted or given up as a whole: datasets, organizations, and uploads.

Each takes bounded pieces, each piece in a transaction of its own, so that a dataset of a million entries
holds nobody up, and a crash costs nothing that was done.
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
from aerotask.store.queue.cancel import TASKS_AT_ONCE

DATASETS = 100
ENTRIES = 5000
UPLOADS = 500


async def cancel_tasks(db: Database, caller: Caller, condition: ColumnElement[bool]) -> None:
    """Cancels the active tasks of a dataset or organization that has just been deleted."""
    # After the commit that hides the dataset: no new task can follow, and a worker that is about to change the
    # dataset can't deadlock with the deletion.
    async with db.begin() as connection:
        await deletion.cancel_tasks(connection, condition, by=caller.display_name)


async def remove_deleted(db: Database, blobs: BlobStore) -> Mapping[str, int]:
    """Remove the rows of deleted datasets, then of organizations that have none any more; how many of each."""
    async with db.read() as connection:
        found = await deletion.find_deleted(connection, at_most=DATASETS)
    for dataset_id in found:
        await _take_apart(db, blobs, dataset_id)
    async with db.begin() as connection:
        orgs = await deletion.remove_empty_orgs(connection)
    return {"datasets": len(found), "organizations": orgs}


async def _take_apart(db: Database, blobs: BlobStore, dataset_id: DatasetId) -> None:
    async with db.begin() as connection:
        # Those that were submitted while the dataset was being deleted, or whose canceller died.
        await deletion.cancel_tasks(connection, deletion.in_dataset(dataset_id), by="sweep")
    gone = TASKS_AT_ONCE
    while gone == TASKS_AT_ONCE:
        async with db.begin() as connection:
            cleared = await deletion.remove_some_tasks(connection, dataset_id, at_most=TASKS_AT_ONCE)
        for key in cleared.blob_keys:
            await blobs.remove(key)
        gone = cleared.tasks
    gone = ENTRIES
    while gone == ENTRIES:
        async with db.begin() as connection:
            gone = await deletion.remove_some_entries(connection, dataset_id, at_most=ENTRIES)
    async with db.begin() as connection:
        await deletion.remove_dataset(connection, dataset_id)


async def remove_expired_uploads(
    db: Database, files: PartialFiles, *, clock_offset_s: int, grace: timedelta
) -> Mapping[str, int]:
    """Remove uploads that have rested too long with their files, and files that belong to none; how many."""
    expired, gone = 0, UPLOADS
    while gone == UPLOADS:
        async with db.begin() as connection:
            ids = await uploads.remove_expired(connection, clock_offset_s=clock_offset_s, at_most=UPLOADS)
        for upload_id in ids:
            await files.remove(str(upload_id))
        gone = len(ids)
        expired += gone
    return {"expired": expired, "left_over": await _remove_left_over(db, files, grace)}


async def _remove_left_over(db: Database, files: PartialFiles, grace: timedelta) -> int:
    """Remove files whose upload is gone with its dataset, or has become an entry before a crash."""
    idle = await asyncio.to_thread(files.idle_keys, grace)
    async with db.read() as connection:
        needed = await uploads.unfinished_among(connection, [UUID(key) for key in idle])
    unneeded = [key for key in idle if UUID(key) not in needed]
    for key in unneeded:
        await files.remove(key)
    return len(unneeded)
