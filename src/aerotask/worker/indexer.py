"""Indexer: claims batches of new entries, extracts their metadata in a child process, and stores it."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from aerotask.blobs.blob_store import BlobStore
from aerotask.db.engine import Database
from aerotask.db.outages import tolerate
from aerotask.domain import paths
from aerotask.domain.ids import new_id
from aerotask.domain.text_cleaning import clean_json
from aerotask.metadata.file_types import side_file_paths_of
from aerotask.metadata.model import extraction_failed
from aerotask.metadata.timeouts import extraction_timeout_s
from aerotask.sandbox.protocol import Message
from aerotask.sandbox.spawner import Spawner
from aerotask.store.datasets import indexing
from aerotask.store.datasets.indexing import Metadata, UnindexedEntry
from aerotask.worker.jobs import IndexJob
from aerotask.worker.supervise import ChildEnd, Ended, supervise
from aerotask.worker.wakeup import WakeupEvent

BATCH = 32
# Added to the timeout of a batch; after it, another worker claims the entries of a worker that died.
LEASE_MARGIN_S = 10.0
MEMORY_BYTES = 512 * 1024 * 1024
MAX_ATTEMPTS = 3
OUTAGE_RETRY_S = 1.0

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Indexer:
    """Indexer of one worker; runs one batch at a time, beside the worker's tasks."""

    db: Database
    blobs: BlobStore
    spawner: Spawner
    poll_s: float
    wakeup: WakeupEvent = field(default_factory=WakeupEvent)
    """Set when there may be entries to index."""

    async def run(self) -> None:
        """Index until cancelled."""
        while True:
            # Errors of the storage are tolerated too: they end once it is repaired.
            found_work = await tolerate("indexer.delayed", self._batch(), also=OSError)
            if not found_work:
                await self.wakeup.wait(self.poll_s)

    async def _batch(self) -> bool:
        async with self.db.begin() as connection:
            batch = await indexing.claim(
                connection, max_count=BATCH, lease_s=extraction_timeout_s(0) + LEASE_MARGIN_S
            )
            timeout_s = extraction_timeout_s(sum(entry.size_bytes for entry in batch))
            if timeout_s > extraction_timeout_s(0) + LEASE_MARGIN_S / 2:
                await indexing.extend(connection, batch, lease_s=timeout_s + LEASE_MARGIN_S)
        if batch:
            folder = self.blobs.work_root / f"index-{new_id()}"
            try:
                await self._describe(batch, folder, timeout_s)
            finally:
                await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        return bool(batch)

    async def _describe(self, batch: list[UnindexedEntry], folder: Path, timeout_s: float) -> None:
        waiting = {str(entry.id): entry for entry in batch}
        for entry in batch:
            if entry.attempt > MAX_ATTEMPTS:
                await self._give_up(waiting.pop(str(entry.id)), "its reader crashed several times")
        linked = await self._link(waiting, folder)
        for key in waiting.keys() - linked.keys():
            await self._give_up(waiting.pop(key), "its content is missing from the storage")
        files = [(key, str(linked[key])) for key in waiting]
        job = IndexJob(tuple(files), str(folder), MEMORY_BYTES)
        described: list[tuple[UnindexedEntry, Metadata]] = []
        begun: str | None = None

        def on_event(event: Message) -> None:
            nonlocal begun
            begun = str(event.body["id"])
            if event.kind == "described":
                described.append((waiting.pop(begun), _metadata(event)))
                begun = None

        ended = await supervise(
            self.spawner,
            job,
            on_event=on_event,
            stop=asyncio.Event(),
            cancel_grace_s=0,
            timeout_s=timeout_s,
        )
        async with self.db.begin() as connection:
            await indexing.finish_all(connection, described)
        if begun is not None and _is_to_blame(ended, described):
            await self._give_up(waiting.pop(begun), _cause(ended, timeout_s))
        elif ended.how is not ChildEnd.DONE:
            await asyncio.sleep(OUTAGE_RETRY_S)
        async with self.db.begin() as connection:
            await indexing.release(connection, list(waiting.values()))

    async def _link(self, entries: Mapping[str, UnindexedEntry], folder: Path) -> dict[str, Path]:
        """Link the entries' contents into folders of their own; the files, without those whose content is missing."""
        files = {key: folder / key / paths.base_name(entry.path) for key, entry in entries.items()}
        try:
            await self.blobs.link_all_to([(entries[key].blob_key, file) for key, file in files.items()])
        except FileNotFoundError:  # an entry has been replaced or removed meanwhile
            files = {key: file for key, file in files.items() if await self._link_one(entries[key], file)}
        for key, file in files.items():
            await self._link_sidecars(entries[key], file.parent)
        return files

    async def _link_one(self, entry: UnindexedEntry, file: Path) -> bool:
        await asyncio.to_thread(file.parent.mkdir, mode=0o700, parents=True, exist_ok=True)
        with suppress(FileExistsError):
            try:
                await self.blobs.link_to(entry.blob_key, file)
            except FileNotFoundError:
                return False
        return True

    async def _link_sidecars(self, entry: UnindexedEntry, folder: Path) -> None:
        """Link the sidecar files of a shapefile beside it; it can't be read without them."""
        sidecars = side_file_paths_of(entry.path)
        if not sidecars:
            return
        async with self.db.read() as connection:
            contents = await indexing.contents_at(connection, entry.dataset_id, sidecars)
        for path, key in contents.items():
            with suppress(FileNotFoundError):
                await self.blobs.link_to(key, folder / paths.base_name(path))

    async def _give_up(self, entry: UnindexedEntry, detail: str) -> None:
        _log.warning("index.failed", entry_id=str(entry.id), detail=detail)
        found = extraction_failed(detail)
        async with self.db.begin() as connection:
            await indexing.finish(connection, entry, Metadata(found.type, dict(found.properties)))


def _is_to_blame(ended: Ended, described: list[tuple[UnindexedEntry, Metadata]]) -> bool:
    """Whether the last begun entry caused the failure; in a timeout, entries before it may have taken the time.

    If so, it is tried again, sooner or later as the first of its batch.
    """
    return not (ended.how is ChildEnd.TIMED_OUT and described)


def _cause(ended: Ended, timeout_s: float) -> str:
    if ended.last is not None:
        return str(ended.last.body.get("message", "the reader was interrupted"))
    return ended.detail or f"it took longer than {timeout_s:.0f} s"


def _metadata(event: Message) -> Metadata:
    body = clean_json(event.body)
    return Metadata(body["type"], body["properties"], body["point"], body["polygon"])
