"""The sweeps of what has been deleted or given up as a whole: datasets, organizations, and uploads.

Each takes bounded pieces, each piece in a transaction of its own, so that a dataset of a million entries
holds nobody up, and a crash costs nothing that was done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from aerotask.blobs.growing import GrowingFiles
from aerotask.domain.ids import DatasetId
from aerotask.services.sweep import Sweep, SweepService
from aerotask.store import removal, uploads

DATASETS = 100
ENTRIES = 5000
# Each may have a log of ten thousand lines.
TASKS = 20
UPLOADS = 500


@dataclass(frozen=True, slots=True)
class RemovalSweep:
    """Runs beside the others of a worker."""

    sweep: SweepService
    files: GrowingFiles

    async def deleted(self) -> int:
        """Remove the rows of deleted datasets and organizations; how many of them."""
        return await self.sweep.alone(Sweep.DELETED, self._deleted)

    async def expired_uploads(self) -> int:
        """Remove uploads that have rested too long, and files that belong to none; how many."""
        return await self.sweep.alone(Sweep.UPLOADS, self._expired_uploads)

    async def _deleted(self) -> Mapping[str, int]:
        async with self.sweep.db.read() as connection:
            found = await removal.find_deleted(connection, at_most=DATASETS)
        for dataset_id in found:
            await self._take_apart(dataset_id)
        async with self.sweep.db.begin() as connection:
            orgs = await removal.remove_empty_orgs(connection)
        return {"datasets": len(found), "organizations": orgs}

    async def _take_apart(self, dataset_id: DatasetId) -> None:
        db = self.sweep.db
        async with db.begin() as connection:
            # Those that were submitted while the dataset was being deleted, or whose canceller died.
            await removal.cancel_tasks(connection, removal.in_dataset(dataset_id), by="sweep")
        while True:
            async with db.begin() as connection:
                cleared = await removal.remove_some_tasks(connection, dataset_id, at_most=TASKS)
            await self.sweep.remove_blobs(cleared.blob_keys)
            if cleared.tasks < TASKS:
                break
        gone = ENTRIES
        while gone == ENTRIES:
            async with db.begin() as connection:
                gone = await removal.remove_some_entries(connection, dataset_id, at_most=ENTRIES)
        async with db.begin() as connection:
            await removal.remove_dataset(connection, dataset_id)

    async def _expired_uploads(self) -> Mapping[str, int]:
        expired = 0
        limits = self.sweep.limits
        while True:
            async with self.sweep.db.begin() as connection:
                gone = await uploads.remove_expired(
                    connection, clock_offset_s=limits.clock_offset_s, at_most=UPLOADS
                )
            for upload_id in gone:
                await self.files.remove(str(upload_id))
            expired += len(gone)
            if len(gone) < UPLOADS:
                break
        return {"expired": expired, "left_over": await self._left_over()}

    async def _left_over(self) -> int:
        """Remove files whose upload is gone with its dataset, or has become an entry before a crash."""
        idle = await asyncio.to_thread(self.files.idle_for, self.sweep.limits.blob_grace)
        async with self.sweep.db.read() as connection:
            needed = await uploads.unfinished_among(connection, [UUID(key) for key in idle])
        unneeded = [key for key in idle if UUID(key) not in needed]
        for key in unneeded:
            await self.files.remove(key)
        return len(unneeded)
