"""A batch of entries whose metadata are read by one child; a file that is slow or ends the child costs only itself."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGPROF
from uuid import UUID

import structlog

from aerotask.aio import cancel_and_wait
from aerotask.blobs.blob_check import wrong_length
from aerotask.blobs.blob_store import BlobStore
from aerotask.db.engine import Database
from aerotask.db.outages import tolerate
from aerotask.derivatives.kinds import lacks_overviews
from aerotask.domain import paths
from aerotask.domain.ids import DatasetId
from aerotask.domain.text_cleaning import clean_json
from aerotask.metadata.file_types import side_file_paths_of
from aerotask.metadata.model import given_up
from aerotask.sandbox.child_log import LOGGED
from aerotask.sandbox.output_log import log_record
from aerotask.sandbox.protocol import Message
from aerotask.sandbox.spawner import Spawner
from aerotask.services.storage.damage import DamageService
from aerotask.store.datasets import index_queue, indexing
from aerotask.store.datasets.index_queue import IndexLane, UnindexedEntry
from aerotask.store.datasets.indexing import FIRST_RETRY_S, Metadata
from aerotask.worker.jobs import IndexJob
from aerotask.worker.supervise import ChildEnd, Ended, supervise

MEMORY_BYTES = 512 * 1024 * 1024
MAX_ATTEMPTS = 3
ATTEMPT_PAUSE_S = 1.0
MISSING_RETRY_S = 60.0
"""Time until an entry is read again whose stored content is missing or damaged."""
LONGEST_RETRY_S = 24 * 3600.0
STORE_PERIOD_S = 0.1
"""Pause between two transactions that store results of a batch."""
_CAUSES = {
    "disk-full": "the storage is full",
    "out-of-memory": "its reader needed too much memory",
    "tool-error": "its reader failed unexpectedly",
}
"""By the code of the child's error, whose message is for tasks."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """Time after which no further file is begun, processor time for one file, and time for everything."""

    batch_s: float
    file_cpu_s: float
    timeout_s: float


@dataclass(slots=True)
class IndexBatch:
    """Claimed entries, of which some are read and the others returned to the queue."""

    db: Database
    blobs: BlobStore
    folder: Path
    entries: Sequence[UnindexedEntry]
    limits: BatchLimits
    last_turn: UUID = field(init=False)
    """The organization whose file was begun last."""
    _left: dict[str, UnindexedEntry] = field(init=False)
    """Entries whose claim is still held."""
    _begun: UnindexedEntry | None = None
    _described: list[tuple[UnindexedEntry, Metadata]] = field(default_factory=list)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._left = {str(entry.id): entry for entry in self.entries}
        self.last_turn = self.entries[0].org

    async def read(self, spawner: Spawner) -> bool:
        """Read the entries in their order, for as long as the limits allow; False if no child could do so.

        Raises:
            StorageAway: the storage isn't there; no attempt is counted.
        """
        try:
            for entry in self.entries:
                if entry.lane is IndexLane.SLOW and entry.attempt > MAX_ATTEMPTS:
                    await self._give_up(entry, "its worker was lost")
            await self.blobs.make_work_folder(self.folder.name)
            files = await self._link()
            for key in self._left.keys() - files.keys():
                await self._missing(self._left[key])
            for key, found_bytes in (await asyncio.to_thread(self._wrong_lengths, files)).items():
                del files[key]
                await self._damaged(self._left[key], found_bytes)
            if not files:
                return True
            ended = await self._run(spawner, files)
            await asyncio.to_thread(self.blobs.require)  # or its files couldn't be read for that reason
            if self._begun is not None:
                await self._conclude(self._begun, ended)
            return ended.how is ChildEnd.DONE or self._begun is not None
        finally:
            await tolerate("indexer.delayed", self._release())

    async def _run(self, spawner: Spawner, files: dict[str, Path]) -> Ended:
        job = IndexJob(
            tuple((key, str(file)) for key, file in files.items()),
            str(self.folder),
            MEMORY_BYTES,
            file_cpu_s=self.limits.file_cpu_s,
            batch_s=self.limits.batch_s,
        )
        storing = asyncio.create_task(self._store_repeatedly())
        try:
            ended = await supervise(
                spawner,
                job,
                on_event=self._on_event,
                stop=asyncio.Event(),
                cancel_grace_s=0,
                timeout_s=self.limits.timeout_s,
            )
        finally:
            await cancel_and_wait(storing)
        await self._store()
        return ended

    def _on_event(self, event: Message) -> None:
        if event.kind == LOGGED:
            begun = self._begun
            ids = {} if begun is None else {"entry_id": str(begun.id), "dataset_id": str(begun.dataset_id)}
            log_record(event.body, **ids)
            return
        entry = self._left[str(event.body["id"])]
        self.last_turn = entry.org
        if event.kind == "described":
            self._described.append((entry, _metadata(event)))
            self._news.set()
        self._begun = entry if event.kind == "begun" else None

    async def _store_repeatedly(self) -> None:
        while True:
            await self._news.wait()
            await asyncio.sleep(STORE_PERIOD_S)
            self._news.clear()
            await tolerate("indexer.delayed", self._store())

    async def _store(self) -> None:
        described = self._described[:]
        async with self.db.begin() as connection:
            await indexing.finish_all(connection, described)
        # Only now: a transaction that was interrupted is repeated.
        del self._described[: len(described)]
        for entry, _ in described:
            del self._left[str(entry.id)]

    async def _conclude(self, entry: UnindexedEntry, ended: Ended) -> None:
        """Decide about the entry at which the child ended."""
        if ended.how is ChildEnd.TIMED_OUT:
            cause = f"it took longer than {self.limits.timeout_s:.0f} s"
        elif ended.last is not None:
            cause = _CAUSES.get(str(ended.last.body.get("code")), "its reader was interrupted")
        else:
            cause = ended.detail
        too_slow = ended.how is ChildEnd.TIMED_OUT or ended.signal == SIGPROF
        if too_slow and entry.lane < IndexLane.SLOW:
            await self._postpone(entry, pause_s=0, counted=False)
        elif ended.signal == SIGPROF:  # it would need as much again
            await self._give_up(entry, cause)
        else:
            await self._failed(entry, cause)

    async def _failed(self, entry: UnindexedEntry, cause: str) -> None:
        """Count an attempt."""
        if entry.attempt >= MAX_ATTEMPTS:
            await self._give_up(entry, cause)
        else:
            _log.warning("index.attempt_failed", entry_id=str(entry.id), attempt=entry.attempt, detail=cause)
            await self._postpone(entry, pause_s=ATTEMPT_PAUSE_S, counted=True)

    async def _missing(self, entry: UnindexedEntry) -> None:
        """Try again later: missing content is an outage and says nothing about the entry."""
        _log.error("blob.missing", blob_key=entry.blob_key, entry_id=str(entry.id))
        await self._postpone(entry, pause_s=MISSING_RETRY_S, counted=False)

    def _wrong_lengths(self, files: dict[str, Path]) -> dict[str, int]:
        """The sizes of those files that haven't their entry's."""
        sizes_bytes = {key: file.stat().st_size for key, file in files.items()}
        return {key: found for key, found in sizes_bytes.items() if found != self._left[key].size_bytes}

    async def _damaged(self, entry: UnindexedEntry, found_bytes: int) -> None:
        """Report it and try again later: what can be read of damaged content says nothing about the entry."""
        await DamageService(self.db).report(wrong_length(entry.blob_key, found_bytes, entry.size_bytes))
        await self._postpone(entry, pause_s=MISSING_RETRY_S, counted=False)

    async def _postpone(self, entry: UnindexedEntry, *, pause_s: float, counted: bool) -> None:
        async with self.db.begin() as connection:
            await index_queue.postpone(connection, entry, pause_s=pause_s, counted=counted)
        del self._left[str(entry.id)]

    async def _give_up(self, entry: UnindexedEntry, cause: str) -> None:
        _log.warning("index.given_up", entry_id=str(entry.id), attempt=entry.attempt, detail=cause)
        found = given_up(entry.path, cause, attempt=entry.attempt)
        async with self.db.begin() as connection:
            await indexing.give_up(
                connection,
                entry,
                Metadata(found.type, dict(found.properties)),
                retry_s=retry_after_s(entry.attempt),
            )
        del self._left[str(entry.id)]

    async def _release(self) -> None:
        async with self.db.begin() as connection:
            await index_queue.release(connection, self._left.values())

    async def _link(self) -> dict[str, Path]:
        """Link the entries' contents into folders of their own; the files, without those whose content is missing."""
        files = {key: self.folder / key / paths.base_name(entry.path) for key, entry in self._left.items()}
        try:
            await self.blobs.link_all_to([(self._left[key].blob_key, file) for key, file in files.items()])
        except FileNotFoundError:  # an entry has been replaced or removed meanwhile
            files = {key: file for key, file in files.items() if await self._link_one(self._left[key], file)}
        await self._link_sidecars(files)
        return files

    async def _link_one(self, entry: UnindexedEntry, file: Path) -> bool:
        await asyncio.to_thread(file.parent.mkdir, mode=0o750, exist_ok=True)
        with suppress(FileExistsError):
            try:
                await self.blobs.link_to(entry.blob_key, file)
            except FileNotFoundError:
                return False
        return True

    async def _link_sidecars(self, files: dict[str, Path]) -> None:
        """Link the sidecar files of shapefiles and rasters beside them; they can't be read correctly without."""
        wanted: dict[DatasetId, dict[str, list[Path]]] = {}
        for key, file in files.items():
            in_dataset = wanted.setdefault(self._left[key].dataset_id, {})
            for path in side_file_paths_of(self._left[key].path):
                in_dataset.setdefault(path, []).append(file.parent)
        for dataset_id, folders in wanted.items():
            if not folders:
                continue
            async with self.db.read() as connection:
                contents = await indexing.contents_at(connection, dataset_id, list(folders))
            for path, blob_key in contents.items():
                for folder in folders[path]:
                    with suppress(FileNotFoundError):
                        await self.blobs.link_to(blob_key, folder / paths.base_name(path))


def retry_after_s(attempt: int) -> float:
    """Time until a file that was given up at this attempt is read again."""
    doublings = min(max(attempt - MAX_ATTEMPTS, 0), 10)
    return float(min(FIRST_RETRY_S * 2**doublings, LONGEST_RETRY_S))


def _metadata(event: Message) -> Metadata:
    body = clean_json(event.body)
    return Metadata(
        body["type"],
        body["properties"],
        body["point"],
        body["polygon"],
        lacks_overviews(body["type"], body["properties"]),
    )
