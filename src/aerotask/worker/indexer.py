"""Looks into uploaded files: takes batches of entries, has a child describe them, stores what it found."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from aerotask.blobs.port import BlobStore
from aerotask.domain import paths
from aerotask.domain.ids import new_id
from aerotask.domain.texts import clean_json
from aerotask.media.types import sides_of_shapefile
from aerotask.sandbox.spawner import Spawner
from aerotask.store import indexing
from aerotask.store.engine import Database
from aerotask.store.indexing import Metadata, Unindexed
from aerotask.store.outages import is_outage
from aerotask.worker.protocol import Event, IndexJob
from aerotask.worker.supervise import End, Ended, supervise

BATCH = 32
# Long enough for a batch; after it, entries of a worker that died are taken up by another.
LEASE_S = 60.0
BATCH_TIMEOUT_S = 50.0
MEMORY_BYTES = 512 * 1024 * 1024
MAX_ATTEMPTS = 3
OUTAGE_RETRY_S = 1.0

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Indexer:
    """The indexer of one worker; it runs one batch at a time, beside the worker's tasks."""

    db: Database
    blobs: BlobStore
    spawner: Spawner
    poll_s: float
    _wake: asyncio.Event = field(default_factory=asyncio.Event)

    def wake(self, _payload: str = "") -> None:
        """There may be something to index."""
        self._wake.set()

    async def run(self) -> None:
        """Index until cancelled."""
        while True:
            self._wake.clear()
            try:
                found_work = await self._batch()
            except Exception as error:
                if not is_outage(error):
                    raise
                _log.warning("indexer.delayed", error=str(error))
                await asyncio.sleep(OUTAGE_RETRY_S)
                continue
            if not found_work:
                await self._rest()

    async def _rest(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self.poll_s):
                await self._wake.wait()

    async def _batch(self) -> bool:
        async with self.db.begin() as connection:
            batch = await indexing.claim(connection, at_most=BATCH, lease_s=LEASE_S)
        if batch:
            folder = self.blobs.work_root / f"index-{new_id()}"
            try:
                await self._describe(batch, folder)
            finally:
                await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        return bool(batch)

    async def _describe(self, batch: list[Unindexed], folder: Path) -> None:
        waiting = {str(entry.id): entry for entry in batch}
        files: list[tuple[str, str]] = []
        for entry in batch:
            key = str(entry.id)
            if entry.attempt > MAX_ATTEMPTS:
                await self._give_up(waiting.pop(key), "it ended its reader several times")
            elif file := await self._lend(entry, folder):
                files.append((key, str(file)))
            else:
                await self._give_up(waiting.pop(key), "its content is missing from the storage")
        job = IndexJob(tuple(files), str(folder), MEMORY_BYTES)
        described: list[tuple[Unindexed, Metadata]] = []
        begun: str | None = None

        def hear(event: Event) -> None:
            nonlocal begun
            begun = str(event.body["id"])
            if event.what == "described":
                described.append((waiting.pop(begun), _metadata(event)))
                begun = None

        ended = await supervise(
            self.spawner,
            job,
            on_event=hear,
            stop=asyncio.Event(),
            cancel_grace_s=0,
            timeout_s=BATCH_TIMEOUT_S,
        )
        async with self.db.begin() as connection:
            for entry, metadata in described:
                await indexing.finish(connection, entry, metadata)
        if begun is not None and _is_to_blame(ended, described):
            await self._give_up(waiting.pop(begun), _cause(ended))
        elif ended.how is not End.DONE:
            await asyncio.sleep(OUTAGE_RETRY_S)
        async with self.db.begin() as connection:
            await indexing.release(connection, list(waiting.values()))

    async def _lend(self, entry: Unindexed, folder: Path) -> Path | None:
        target = folder / str(entry.id) / paths.base_name(entry.path)
        await asyncio.to_thread(target.parent.mkdir, mode=0o700, parents=True)
        try:
            await self.blobs.lend(entry.blob_key, target)
        except FileNotFoundError:  # replaced or removed meanwhile
            return None
        await self._lend_sides(entry, target.parent)
        return target

    async def _lend_sides(self, entry: Unindexed, folder: Path) -> None:
        """The files without which a shapefile can't be read, beside it."""
        wanted = sides_of_shapefile(entry.path)
        if not wanted:
            return
        async with self.db.read() as connection:
            sides = await indexing.contents_at(connection, entry.dataset_id, wanted)
        for path, key in sides.items():
            with suppress(FileNotFoundError):
                await self.blobs.lend(key, folder / paths.base_name(path))

    async def _give_up(self, entry: Unindexed, detail: str) -> None:
        _log.warning("index.failed", entry_id=str(entry.id), detail=detail)
        fault = {"code": "unreadable-file", "message": f"The file could not be looked into: {detail}."}
        async with self.db.begin() as connection:
            await indexing.finish(connection, entry, Metadata("generic", {"indexError": fault}))


def _is_to_blame(ended: Ended, described: list[tuple[Unindexed, Metadata]]) -> bool:
    """Whether the entry that was begun last is at fault: others before it may have taken the time.

    It is tried again then, sooner or later as the first of its batch.
    """
    return not (ended.how is End.TIMED_OUT and described)


def _cause(ended: Ended) -> str:
    if ended.last is not None:
        return str(ended.last.body.get("message", "the reader was interrupted"))
    return ended.detail or f"it took longer than {BATCH_TIMEOUT_S:.0f} s"


def _metadata(event: Event) -> Metadata:
    body = clean_json(event.body)
    return Metadata(body["type"], body["properties"], body["point"], body["polygon"])
