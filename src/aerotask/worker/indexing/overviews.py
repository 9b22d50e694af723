"""Overviews of the rasters that have arrived without: a worker makes them beside its indexers, one raster at a time."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGPROF
from typing import Any
from uuid import UUID

import structlog

from aerotask.aio import cancel_and_wait
from aerotask.blobs.blob_check import wrong_length
from aerotask.blobs.blob_store import Blob, BlobStore
from aerotask.blobs.storage_root import StorageAway
from aerotask.db.engine import Database
from aerotask.db.outages import tolerate
from aerotask.derivatives.kinds import OVERVIEWS, OVERVIEWS_BUILDER
from aerotask.domain import paths
from aerotask.domain.disk_full import is_disk_full
from aerotask.domain.ids import new_id
from aerotask.domain.text_cleaning import clean_json
from aerotask.raster.profile import RasterProfile
from aerotask.sandbox.spawner import Spawner
from aerotask.services.storage.damage import DamageService
from aerotask.store.datasets import derivatives, index_queue
from aerotask.store.datasets.derivatives import NewDerivative
from aerotask.store.datasets.index_queue import FROM_THE_FIRST, IndexLane, UnindexedEntry
from aerotask.worker.jobs import OverviewsJob
from aerotask.worker.supervise import ChildEnd, Ended, supervise
from aerotask.worker.wakeup import WakeupEvent

MEMORY_BYTES = 1024**3
MAX_ATTEMPTS = 3
ATTEMPT_PAUSE_S = 1.0
AWAY_RETRY_S = 60.0
"""Time until it is tried again while the content is missing or damaged, or the disk is short."""
LEASE_S = 20.0
"""After it, another worker makes the overviews if this one died; it is renewed while the child works."""
RENEW_S = 5.0
CPU_S = 60.0
"""Processor time for a raster, besides the time for its pixels."""
DECODED_BYTES_PER_CPU_S = 10_000_000
"""A fifth of what is usual, since the strips of a wide raster are decoded several times."""
TIMEOUT_FACTOR = 3
GROWTH = 6
"""The overviews have at most so many bytes for each of the file, as its COG would."""
SMALLEST_LIMIT_BYTES = 64 * 1024 * 1024

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class OverviewMaker:
    """Makes the overviews of claimed rasters until it is cancelled."""

    db: Database
    blobs: BlobStore
    spawner: Spawner
    threads: int
    poll_s: float
    wakeup: WakeupEvent = field(default_factory=WakeupEvent)
    """Set when a raster may have been indexed."""
    _last_turn: UUID = FROM_THE_FIRST

    async def run(self) -> None:
        """Make overviews until cancelled."""
        while True:
            found_work = await tolerate("overviews.delayed", self._next(), also=OSError)
            if not found_work:
                await self.wakeup.wait(self.poll_s)

    async def _next(self) -> bool:
        await asyncio.to_thread(self.blobs.require)
        async with self.db.begin() as connection:
            claimed = await index_queue.claim(
                connection, IndexLane.OVERVIEWS, max_count=1, lease_s=LEASE_S, after=self._last_turn
            )
        for entry in claimed:
            self._last_turn = entry.org
            try:
                await self._make(entry)
            except (asyncio.CancelledError, StorageAway):  # which say nothing about the raster
                await tolerate("overviews.delayed", self._release(entry))
                raise
        return bool(claimed)

    async def _release(self, entry: UnindexedEntry) -> None:
        async with self.db.begin() as connection:
            await index_queue.release(connection, [entry])

    async def _make(self, entry: UnindexedEntry) -> None:
        async with self.db.read() as connection:
            content = await derivatives.content_without_overviews(connection, entry.id, OVERVIEWS_BUILDER)
        if content is None:
            await self._finish(entry)
        elif entry.attempt > MAX_ATTEMPTS:
            await self._give_up(entry, "its worker was lost")
        elif not await self._has_space(entry):
            await self._postpone(entry, "the disk is short", counted=False)
        else:
            folder = self.blobs.work_root / f"index-{new_id()}"
            try:
                await self.blobs.make_work_folder(folder.name)
                await self._make_in(folder, entry, *content)
            finally:
                await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def _make_in(
        self, folder: Path, entry: UnindexedEntry, sha256: str, properties: dict[str, Any]
    ) -> None:
        source = folder / paths.base_name(entry.path)
        try:
            await self.blobs.link_to(entry.blob_key, source)
        except FileNotFoundError:
            await self._postpone(entry, "its content is missing", counted=False)
            return
        found_bytes = source.stat().st_size
        if found_bytes != entry.size_bytes:
            await DamageService(self.db).report(wrong_length(entry.blob_key, found_bytes, entry.size_bytes))
            await self._postpone(entry, "its content is damaged", counted=False)
            return
        cpu_s = _cpu_limit_s(properties)
        job = OverviewsJob(str(source), str(folder), MEMORY_BYTES, self.threads, cpu_s, _limit_bytes(entry))
        async with self._renewing(entry, folder):
            ended = await supervise(
                self.spawner,
                job,
                on_event=lambda _event: None,
                stop=asyncio.Event(),
                cancel_grace_s=0,
                timeout_s=TIMEOUT_FACTOR * cpu_s,
            )
            if ended.how is ChildEnd.DONE and ended.last is not None:
                made = await asyncio.to_thread(_regular, job.target)
                blob = await self.blobs.ingest(made)
                await self._keep(entry, sha256, blob, clean_json(ended.last.body["properties"]))
                return
        await asyncio.to_thread(self.blobs.require)  # or the file couldn't be read for that reason
        await self._failed(entry, ended)

    async def _has_space(self, entry: UnindexedEntry) -> bool:
        try:
            await asyncio.to_thread(self.blobs.require_space, entry.size_bytes)
        except OSError as error:
            if is_disk_full(error):
                return False
            raise
        return True

    @asynccontextmanager
    async def _renewing(self, entry: UnindexedEntry, folder: Path) -> AsyncIterator[None]:
        """Renew the claim within the block, and touch the folder, so that maintenance keeps it."""

        async def renew() -> None:
            while True:
                await asyncio.sleep(RENEW_S)
                await asyncio.to_thread(os.utime, folder)
                await tolerate("overviews.delayed", self._extend(entry))

        renewing = asyncio.create_task(renew())
        try:
            yield
        finally:
            await cancel_and_wait(renewing)

    async def _extend(self, entry: UnindexedEntry) -> None:
        async with self.db.begin() as connection:
            await index_queue.extend(connection, entry, lease_s=LEASE_S)

    async def _keep(self, entry: UnindexedEntry, sha256: str, blob: Blob, properties: dict[str, Any]) -> None:
        new = NewDerivative(
            dataset_id=entry.dataset_id,
            source_key=sha256,
            kind=OVERVIEWS,
            content_sha256=sha256,
            builder=OVERVIEWS_BUILDER,
            blob_key=blob.key,
            size_bytes=blob.size_bytes,
            sha256=blob.sha256,
            properties=properties,
        )
        async with self.db.begin() as connection:
            is_ours = await index_queue.finish_overviews(connection, entry)
            if is_ours:
                await derivatives.put(connection, [new])
        if is_ours:
            _log.info("overviews.made", entry_id=str(entry.id), size_bytes=blob.size_bytes)
        else:  # the content has been replaced, or another worker has taken over
            await self.blobs.remove(blob.key)

    async def _failed(self, entry: UnindexedEntry, ended: Ended) -> None:
        """Give up what the file itself is the reason of, and count the attempt otherwise."""
        body = {} if ended.last is None else ended.last.body
        cause = str(body.get("message") or ended.detail or f"it was {ended.how.name.lower()}")
        is_final = ended.how is ChildEnd.FAILED and body.get("code") not in {"tool-error", "disk-full"}
        if is_final or ended.signal == SIGPROF or entry.attempt >= MAX_ATTEMPTS:
            await self._give_up(entry, cause)
        else:
            await self._postpone(entry, cause, counted=True)

    async def _postpone(self, entry: UnindexedEntry, cause: str, *, counted: bool) -> None:
        _log.warning("overviews.postponed", entry_id=str(entry.id), attempt=entry.attempt, detail=cause)
        pause_s = ATTEMPT_PAUSE_S if counted else AWAY_RETRY_S
        async with self.db.begin() as connection:
            await index_queue.postpone(connection, entry, pause_s=pause_s, counted=counted)

    async def _give_up(self, entry: UnindexedEntry, cause: str) -> None:
        _log.warning("overviews.given_up", entry_id=str(entry.id), attempt=entry.attempt, detail=cause)
        await self._finish(entry)

    async def _finish(self, entry: UnindexedEntry) -> None:
        async with self.db.begin() as connection:
            await index_queue.finish_overviews(connection, entry)


def _cpu_limit_s(properties: dict[str, Any]) -> float:
    profile = RasterProfile.from_properties(properties)
    return CPU_S + (profile.decoded_bytes / DECODED_BYTES_PER_CPU_S if profile else 0)


def _limit_bytes(entry: UnindexedEntry) -> int:
    return max(GROWTH * entry.size_bytes, SMALLEST_LIMIT_BYTES)


def _regular(path: str) -> Path:
    """The child's file, which must be a regular one."""
    file = Path(path)
    with suppress(FileNotFoundError):
        if stat.S_ISREG(file.lstat().st_mode):
            return file
    raise OSError(f"the child has left no regular file {file.name}")
