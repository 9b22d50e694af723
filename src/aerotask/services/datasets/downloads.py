"""A small selection of a dataset as a ZIP at once, from the stored contents alone; a larger one is a task."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass

from isal import isal_zlib
from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.archives.ddb_index import INDEX_PATH, write_index
from aerotask.archives.zip.stream import StreamMember, StreamWriter, streamed_bytes
from aerotask.blobs.blob_store import BlobStore, OpenBlob
from aerotask.blobs.pinned import PinnedBlobs, pin_blobs
from aerotask.db.engine import Database
from aerotask.domain import paths
from aerotask.domain.access import Caller
from aerotask.domain.errors import NotFound, UseTask
from aerotask.sdk.dataset import EntryView
from aerotask.sdk.snapshot import Snapshot, write_snapshot
from aerotask.services.accounts.permissions import PermissionService
from aerotask.services.datasets.entry_view import entry_view
from aerotask.store.datasets import entries
from aerotask.store.datasets.datasets import DatasetRow
from aerotask.store.datasets.entries import FOLDER, WHOLE_ENTRY, EntryRow
from aerotask.store.datasets.plan_rows import ENTRY_SUMMARY, EntrySummary

MAX_STREAMED_ENTRIES = 10_000
GATHER_BYTES = 256 * 1024
_INDEX, _SNAPSHOT = "index.sqlite", "snapshot"


@dataclass(frozen=True, slots=True)
class DownloadPart:
    """A member of the ZIP, and the name of its content among those that are held; None for a folder."""

    member: StreamMember
    content: str | None


@dataclass(frozen=True, slots=True)
class DownloadSelection:
    """What is to be streamed, and under which name; its contents are held until it is let go."""

    file_name: str
    parts: tuple[DownloadPart, ...]
    length: int
    """The length of the ZIP."""
    held: PinnedBlobs

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The bytes of the ZIP.

        Each content is read twice, first for its checksum, which stands before it.

        Raises:
            OSError: the storage fails; what was sent so far is no whole ZIP.
        """
        writer = StreamWriter()
        gathered = bytearray()
        for part in self.parts:
            async with aclosing(self._part_chunks(writer, part)) as pieces:
                async for piece in pieces:
                    gathered += piece
                    if len(gathered) >= GATHER_BYTES:
                        yield bytes(gathered)
                        gathered.clear()
        yield bytes(gathered) + writer.tail()

    async def let_go(self) -> None:
        """Give the contents back."""
        await self.held.release()

    async def _part_chunks(self, writer: StreamWriter, part: DownloadPart) -> AsyncGenerator[bytes, None]:
        if part.content is None:
            yield writer.head(part.member)
            return
        content = await self.held.open(part.content)
        try:
            yield writer.head(part.member, await _crc32(content))
            async for piece in content.chunks(0, part.member.size_bytes):
                yield piece
        finally:
            await content.close()


@dataclass(frozen=True, slots=True)
class DownloadService:
    """Gives selections of entries to download."""

    db: Database
    blobs: BlobStore
    access: PermissionService
    threshold_bytes: int
    tool_id: str
    """The tool for larger selections; its params take `paths`."""

    async def select(
        self, caller: Caller, org_slug: str, slug: str, named: Sequence[str]
    ) -> DownloadSelection | EntryRow:
        """The one file that is named, or what to stream: the named entries with all below; all if none is named.

        Whoever gets a selection has to let it go.

        Raises:
            NotFound: there is nothing at one of the paths.
            UseTask: it is more than is streamed at once.
        """
        wanted = list(dict.fromkeys(map(paths.entry_path, named)))
        dataset = (await self.access.dataset(caller, org_slug, slug)).row
        if len(wanted) == 1:
            async with self.db.read() as connection:
                only = await entries.find(connection, dataset.id, wanted[0])
            if only is not None and only.type != FOLDER:
                return only
        for _ in range(3):
            # Removed between the look and the holding: look again.
            with suppress(FileNotFoundError):
                return await self._held(dataset, wanted)
        raise NotFound("The content of an entry is missing from the storage.")

    async def _held(self, dataset: DatasetRow, wanted: Sequence[str]) -> DownloadSelection:
        held = await pin_blobs(self.blobs)
        try:
            parts = await self._parts(dataset, wanted, held)
            await held.add(part.content for part in parts if part.content and part.content != _INDEX)
            length = await asyncio.to_thread(streamed_bytes, [part.member for part in parts])
        except BaseException:
            await held.release()
            raise
        stem = paths.base_name(wanted[0]) if len(wanted) == 1 else dataset.slug
        return DownloadSelection(f"{stem}.zip", tuple(parts), length, held)

    async def _parts(
        self, dataset: DatasetRow, wanted: Sequence[str], held: PinnedBlobs
    ) -> list[DownloadPart]:
        async with self.db.begin() as connection:
            size = await entries.measure(connection, dataset.id, wanted or [""])
            self._refuse_large(size, wanted)
            if wanted:
                return await _named(connection, dataset, wanted)
            parts = await _noted(connection, dataset, held)
        return [*parts, *await asyncio.to_thread(_index_parts, dataset, held)]

    def _refuse_large(self, size: entries.EntryTotals, wanted: Sequence[str]) -> None:
        if size.size_bytes <= self.threshold_bytes and size.count <= MAX_STREAMED_ENTRIES:
            return
        raise UseTask(
            f"The selection has {size.count} entries with {size.size_bytes} bytes; at once, up to "
            f"{MAX_STREAMED_ENTRIES} entries with {self.threshold_bytes} bytes are sent. Submit the task in 'task'.",
            tool_id=self.tool_id,
            params={"paths": list(wanted) or None},
            code="use-bulk-download",
        )


async def _named(
    connection: AsyncConnection, dataset: DatasetRow, wanted: Sequence[str]
) -> list[DownloadPart]:
    rows = [row async for row in entries.stream_within(connection, dataset.id, wanted, ENTRY_SUMMARY)]
    there = {row.path for row in rows}
    missing = next((path for path in wanted if path not in there), None)
    if missing is not None:
        raise NotFound(f"The dataset has no entry {paths.shown(missing)}.", code="no-such-entry")
    return [_part(row) for row in rows]


async def _noted(connection: AsyncConnection, dataset: DatasetRow, held: PinnedBlobs) -> list[DownloadPart]:
    """All entries; what is known of these goes among what is held, for the index."""
    parts: list[DownloadPart] = []

    async def noted() -> AsyncIterator[EntryView]:
        async for row in entries.stream_within(connection, dataset.id, [""], WHOLE_ENTRY):
            parts.append(_part(row))
            yield entry_view(row)

    await write_snapshot(held.folder / _SNAPSHOT, noted())
    return parts


def _index_parts(dataset: DatasetRow, held: PinnedBlobs) -> list[DownloadPart]:
    """The index of what was noted, as in the ZIP of a download task."""
    index, now = held.folder / _INDEX, int(time.time())
    known = Snapshot(dataset.slug, held.folder / _SNAPSHOT)
    write_index(index, known.entries(), slug=dataset.slug, exported_at=now)
    folders = [
        DownloadPart(StreamMember(path, now, is_folder=True), None) for path in paths.parents(INDEX_PATH)
    ]
    return [*folders, DownloadPart(StreamMember(INDEX_PATH, now, index.stat().st_size), _INDEX)]


async def _crc32(content: OpenBlob) -> int:
    crc32 = 0
    async for piece in content.chunks(0, content.size_bytes):
        crc32 = isal_zlib.crc32(piece, crc32)
    return crc32


def _part(row: EntryRow | EntrySummary) -> DownloadPart:
    mtime = int(row.modified_at.timestamp())
    return DownloadPart(
        StreamMember(row.path, mtime, row.size_bytes, is_folder=row.type == FOLDER), row.blob_key
    )
