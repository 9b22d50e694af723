"""Removal of orphans: blobs that no row has named for the grace time.

The grace time of a blob begins when this database first saw it unnamed, not when its file was written: beside a new or
restored database every file is old. A removal of more than a tenth of all blobs waits for a confirmation.

On a disk that is short of space, blobs that this database itself has recorded as let go by a row need neither.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

import structlog

from aerotask.blobs.blob_store import BlobStore
from aerotask.db import locks
from aerotask.db.engine import Database
from aerotask.db.locks import LockSpace
from aerotask.failpoints import failpoint
from aerotask.services.storage.installation import InstallationService
from aerotask.store.queue import retention
from aerotask.store.storage import installation, released_blobs, unnamed_blobs

BATCH = 500
UNCONFIRMED_FRACTION = 0.1
UNCONFIRMED_BLOBS = 100
"""Up to this number, blobs are removed without a confirmation, however small the installation is."""
CONFIRMATION = (
    "Find out why so many files are no longer named by the database (an old backup, a deletion); if they may go, "
    "run `aerotask storage sweep --confirm`."
)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SweptOrphans:
    """The numbers of removed blobs, and of those whose removal waits for a confirmation."""

    removed: int
    held: int


@dataclass(frozen=True, slots=True)
class ReleasedBlobs:
    """The number of times that a row let go a blob, and of the blobs that were removed therefore."""

    count: int
    removed: int


@dataclass(frozen=True, slots=True)
class OrphanSweep:
    """One round of the removal."""

    db: Database
    blobs: BlobStore
    grace: timedelta
    clock_offset_s: int

    # Invariant: this removes no blob that a committed row references, nor one that a row is about to reference.
    # - A new blob is referenced within moments of being stored, and blobs that were seen unnamed for less than
    #   the grace time are skipped. (So the grace time must exceed the time for which a worker with finished outputs
    #   waits for Postgres, `domain.retry.OUTAGE_S`: production mode enforces it.)
    # - An old blob gets a new reference only from an existing one: the entry that a task reads, or that is
    #   copied. Such a transaction holds LockSpace.BLOBS shared from before it checks the old reference
    #   (`retention.retain_blobs`) until it commits. The query that decides runs under the same lock held
    #   exclusively: earlier transactions have committed and are seen; later ones find no reference to copy.
    #   So a blob found without a reference stays without one, and its file can be removed outside the lock.
    async def run(self, *, confirmed: bool = False) -> SweptOrphans:
        """Removes the orphans, unless they are so many that it takes a confirmation.

        Raises:
            StorageMismatch: the storage belongs to another installation.
        """
        await InstallationService(self.db, self.blobs).verify()
        stored = await self._record()
        async with self.db.begin() as connection:
            due = await unnamed_blobs.count_due(connection, plus_s=self._horizon_s)
            held = 0 if confirmed or due <= max(UNCONFIRMED_BLOBS, stored * UNCONFIRMED_FRACTION) else due
            await installation.set_held_blobs(connection, held)
            await released_blobs.remove_settled(connection, plus_s=self._horizon_s)
        if held:
            _log.error("sweep.held", blobs=held, stored=stored, remedy=CONFIRMATION)
            return SweptOrphans(0, held)
        return SweptOrphans(await self._remove_due(), 0)

    # Invariant: as for `run`. No grace time is needed, since a row has named these blobs: none of them is a new one
    # that waits for its row, and an old one is named again only under the lock.
    async def remove_released(self) -> ReleasedBlobs:
        """Removes the blobs that entries and derivatives have let go, unless another row names them.

        Raises:
            StorageMismatch: the storage belongs to another installation.
        """
        await InstallationService(self.db, self.blobs).verify()
        count = removed = 0
        while True:
            async with self.db.begin() as connection:
                released = await released_blobs.find_some(connection, max_count=BATCH)
                if not released:
                    return ReleasedBlobs(count, removed)
                suspects = set(released.values())
                await locks.take(connection, LockSpace.BLOBS)
                named = await retention.referenced_among(connection, list(suspects))
            count += len(released)
            removed += await self._remove(suspects - named)
            async with self.db.begin() as connection:
                await unnamed_blobs.forget(connection, suspects - named)
                await released_blobs.remove(connection, released)

    @property
    def _horizon_s(self) -> float:
        return self.clock_offset_s - self.grace.total_seconds()

    async def _record(self) -> int:
        """Records the blobs that no row names, and forgets those that one names again; the number of all blobs."""
        stored = 0
        batches = self.blobs.all_keys()
        while (batch := await asyncio.to_thread(next, batches, None)) is not None:
            stored += len(batch)
            async with self.db.begin() as connection:
                named = await retention.referenced_among(connection, batch)
                await unnamed_blobs.forget(connection, named)
                await unnamed_blobs.add(connection, set(batch) - named)
        return stored

    async def _remove_due(self) -> int:
        total = 0
        while True:
            async with self.db.begin() as connection:
                suspects = await unnamed_blobs.find_due(connection, plus_s=self._horizon_s, max_count=BATCH)
                if not suspects:
                    return total
                await locks.take(connection, LockSpace.BLOBS)
                named = await retention.referenced_among(connection, list(suspects))
            total += await self._remove(suspects - named)
            async with self.db.begin() as connection:
                await unnamed_blobs.forget(connection, suspects)

    async def _remove(self, blob_keys: Iterable[str]) -> int:
        removed = 0
        for key in blob_keys:
            failpoint("sweep-removing")
            removed += await self.blobs.remove(key)
        return removed
