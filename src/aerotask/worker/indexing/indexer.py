"""Indexers of a worker: each claims batches of new entries of its lanes, and has their metadata read in a child process."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from aerotask.blobs.blob_store import BlobStore
from aerotask.db.engine import Database
from aerotask.db.outages import tolerate
from aerotask.domain.ids import new_id
from aerotask.metadata.timeouts import cpu_limit_s, extraction_timeout_s
from aerotask.sandbox.spawner import Spawner
from aerotask.store.datasets import index_queue
from aerotask.store.datasets.index_queue import FROM_THE_FIRST, IndexLane, UnindexedEntry
from aerotask.store.datasets.indexing import FIRST_RETRY_S
from aerotask.worker.indexing.index_batch import BatchLimits, IndexBatch
from aerotask.worker.wakeup import WakeupEvent

BATCH = 32
BATCH_S = 0.5
"""Time after which a batch begins no further file, so that entries that arrived meanwhile get their turn."""
QUICK_CPU_S = 0.5
"""Processor time for a file of a batch; a slower one is read again by itself, in the slow lane."""
QUICK_TIMEOUT_S = 15.0
# After it, another worker claims the entries of a worker that died.
LEASE_MARGIN_S = 10.0
OUTAGE_RETRY_S = 1.0

LANES: tuple[tuple[IndexLane, ...], ...] = (
    (IndexLane.SINGLE,),
    (IndexLane.BULK,),
    (IndexLane.SLOW, IndexLane.GIVEN_UP),
)
"""The lanes of each of a worker's indexers, the most urgent first."""


@dataclass(slots=True)
class Indexer:
    """One of a worker's indexers; it reads one batch at a time, beside the others and the worker's tasks."""

    db: Database
    blobs: BlobStore
    spawner: Spawner
    poll_s: float
    lanes: Sequence[IndexLane]
    wakeup: WakeupEvent = field(default_factory=WakeupEvent)
    """Set when there may be entries to index."""
    _last_turns: dict[IndexLane, UUID] = field(default_factory=dict)

    async def run(self) -> None:
        """Index until cancelled."""
        while True:
            # Errors of the storage are tolerated too: they end once it is repaired.
            found_work = await tolerate("indexer.delayed", self._batch(), also=OSError)
            if not found_work:
                await self.wakeup.wait(self.poll_s)

    async def _batch(self) -> bool:
        await asyncio.to_thread(self.blobs.require)
        for lane in self.lanes:
            if entries := await self._claim(lane):
                await self._read(entries)
                return True
        return False

    async def _claim(self, lane: IndexLane) -> list[UnindexedEntry]:
        is_slow = lane >= IndexLane.SLOW
        async with self.db.begin() as connection:
            entries = await index_queue.claim(
                connection,
                lane,
                max_count=1 if is_slow else BATCH,
                # One that was given up is not claimed again at once, should it end its worker.
                lease_s=FIRST_RETRY_S if lane is IndexLane.GIVEN_UP else QUICK_TIMEOUT_S + LEASE_MARGIN_S,
                after=self._last_turns.get(lane, FROM_THE_FIRST),
            )
            if entries and lane is IndexLane.SLOW:
                lease_s = extraction_timeout_s(entries[0].size_bytes) + LEASE_MARGIN_S
                await index_queue.extend(connection, entries[0], lease_s=lease_s)
        return entries

    async def _read(self, entries: Sequence[UnindexedEntry]) -> None:
        folder = self.blobs.work_root / f"index-{new_id()}"
        batch = IndexBatch(self.db, self.blobs, folder, entries, _limits(entries))
        try:
            can_go_on = await batch.read(self.spawner)
        finally:
            self._last_turns[entries[0].lane] = batch.last_turn
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        if not can_go_on:
            await asyncio.sleep(OUTAGE_RETRY_S)


def indexers(db: Database, blobs: BlobStore, spawner: Spawner, poll_s: float) -> list[Indexer]:
    """The indexers of a worker."""
    return [Indexer(db, blobs, spawner, poll_s, lanes) for lanes in LANES]


def _limits(entries: Sequence[UnindexedEntry]) -> BatchLimits:
    """Seconds for each file of a batch, and what its size allows for one that is read by itself."""
    lane, size_bytes = entries[0].lane, entries[0].size_bytes
    if lane >= IndexLane.SLOW:
        return BatchLimits(0, cpu_limit_s(size_bytes), extraction_timeout_s(size_bytes))
    return BatchLimits(BATCH_S, QUICK_CPU_S, BATCH_S + QUICK_TIMEOUT_S)
