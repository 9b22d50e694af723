"""Immediate download of a small selection as a ZIP stream; larger selections are a task."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import PurePath

from isal import isal_zlib
from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.archives.ddb_index import INDEX_PATH, write_index
from aerotask.archives.zip.stream import StreamMember, StreamWriter, streamed_bytes
from aerotask.blobs.blob_check import wrong_hash, wrong_length
from aerotask.blobs.blob_store import BlobStore, OpenBlob
from aerotask.blobs.missing import content_missing
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
BUFFER_BYTES = 256 * 1024
_INDEX, _SNAPSHOT = "index.sqlite", "snapshot"


@dataclass(frozen=True, slots=True)
class DownloadPart:
    """A member of the ZIP, and the name and hash of its pinned content; None for a folder."""

    member: StreamMember
    content: str | None
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class DownloadSelection:
    """The ZIP to stream, with its file name; its contents stay pinned until `release`."""

    file_name: str
    parts: tuple[DownloadPart, ...]
    length: int
    """The length of the ZIP."""
    pinned: PinnedBlobs

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The bytes of the ZIP.

        Each content is read twice, first for the checksum in its header and the comparison of its hash.

        Raises:
            ContentDamaged: a content isn't what its row says; the bytes so far are an incomplete ZIP.
            OSError: the storage fails; the bytes so far are an incomplete ZIP.
        """
        writer = StreamWriter()
        buffer = bytearray()
        for part in self.parts:
            async with aclosing(self._part_chunks(writer, part)) as chunks:
                async for chunk in chunks:
                    buffer += chunk
                    if len(buffer) >= BUFFER_BYTES:
                        yield bytes(buffer)
                        buffer.clear()
        yield bytes(buffer) + writer.tail()

    async def release(self) -> None:
        """Unpins the contents."""
        await self.pinned.release()

    async def _part_chunks(self, writer: StreamWriter, part: DownloadPart) -> AsyncGenerator[bytes, None]:
        if part.content is None:
            yield writer.head(part.member)
            return
        content = await self.pinned.open(part.content)
        try:
            yield writer.head(part.member, await _crc32(part, content))
            async for chunk in content.chunks(0, part.member.size_bytes):
                yield chunk
        finally:
            await content.close()


@dataclass(frozen=True, slots=True)
class DownloadService:
    """Selects entries for immediate download."""

    db: Database
    blobs: BlobStore
    access: PermissionService
    threshold_bytes: int
    tool_id: str
    """The tool for larger selections; its params take `paths`."""

    async def select(
        self, caller: Caller, org_slug: str, slug: str, named_paths: Sequence[str]
    ) -> DownloadSelection | EntryRow:
        """The single named file, or the selection of all named entries with everything below them; no path selects all.

        The caller must `release` a selection.

        Raises:
            NotFound: there is no entry at one of the paths.
            UseTask: the selection exceeds the limits for streaming.
            ContentDamaged: a stored file isn't as long as its row says.
            Unavailable: a content is missing from the storage.
        """
        selected = list(dict.fromkeys(map(paths.entry_path, named_paths)))
        dataset = (await self.access.dataset(caller, org_slug, slug)).row
        if len(selected) == 1:
            async with self.db.read() as connection:
                only = await entries.find(connection, dataset.id, selected[0])
            if only is not None and only.type != FOLDER:
                return only
        missing = ""
        for _ in range(3):
            try:
                return await self._selection(dataset, selected)
            except FileNotFoundError as error:  # removed between the query and the pinning: query again
                missing = PurePath(error.filename).name
        raise content_missing(missing)

    async def _selection(self, dataset: DatasetRow, selected: Sequence[str]) -> DownloadSelection:
        pinned = await pin_blobs(self.blobs)
        try:
            parts = await self._parts(dataset, selected, pinned)
            await pinned.add(part.content for part in parts if part.content and part.content != _INDEX)
            await asyncio.to_thread(_check_lengths, parts, pinned)
            length = await asyncio.to_thread(streamed_bytes, [part.member for part in parts])
        except BaseException:
            await pinned.release()
            raise
        stem = paths.base_name(selected[0]) if len(selected) == 1 else dataset.slug
        return DownloadSelection(f"{stem}.zip", tuple(parts), length, pinned)

    async def _parts(
        self, dataset: DatasetRow, selected: Sequence[str], pinned: PinnedBlobs
    ) -> list[DownloadPart]:
        async with self.db.begin() as connection:
            totals = await entries.measure(connection, dataset.id, selected or [""])
            self._raise_if_too_large(totals, selected)
            if selected:
                return await _selected_parts(connection, dataset, selected)
            parts = await _all_parts(connection, dataset, pinned)
        return [*parts, *await asyncio.to_thread(_index_parts, dataset, pinned)]

    def _raise_if_too_large(self, totals: entries.EntryTotals, selected: Sequence[str]) -> None:
        if totals.size_bytes <= self.threshold_bytes and totals.count <= MAX_STREAMED_ENTRIES:
            return
        raise UseTask(
            f"The selection has {totals.count} entries with {totals.size_bytes} bytes; at most {MAX_STREAMED_ENTRIES} entries "
            f"with {self.threshold_bytes} bytes are streamed. Submit the task in 'task' instead.",
            tool_id=self.tool_id,
            params={"paths": list(selected) or None},
            code="use-bulk-download",
        )


async def _selected_parts(
    connection: AsyncConnection, dataset: DatasetRow, selected: Sequence[str]
) -> list[DownloadPart]:
    rows = [row async for row in entries.stream_within(connection, dataset.id, selected, ENTRY_SUMMARY)]
    existing = {row.path for row in rows}
    missing = next((path for path in selected if path not in existing), None)
    if missing is not None:
        raise NotFound(f"The dataset has no entry {paths.shown(missing)}.", code="no-such-entry")
    return [_part(row) for row in rows]


async def _all_parts(
    connection: AsyncConnection, dataset: DatasetRow, pinned: PinnedBlobs
) -> list[DownloadPart]:
    """The parts of all entries, whose snapshot is written to the pinned folder for the index."""
    parts: list[DownloadPart] = []

    async def views() -> AsyncIterator[EntryView]:
        async for row in entries.stream_within(connection, dataset.id, [""], WHOLE_ENTRY):
            parts.append(_part(row))
            yield entry_view(row)

    await write_snapshot(pinned.folder / _SNAPSHOT, views())
    return parts


def _index_parts(dataset: DatasetRow, pinned: PinnedBlobs) -> list[DownloadPart]:
    """The index of the snapshot, as in the ZIP of a download task."""
    index, now = pinned.folder / _INDEX, int(time.time())
    snapshot = Snapshot(dataset.slug, pinned.folder / _SNAPSHOT)
    write_index(index, snapshot.entries(), slug=dataset.slug, exported_at=now)
    folders = [
        DownloadPart(StreamMember(path, now, is_folder=True), None) for path in paths.parents(INDEX_PATH)
    ]
    return [*folders, DownloadPart(StreamMember(INDEX_PATH, now, index.stat().st_size), _INDEX)]


def _check_lengths(parts: Sequence[DownloadPart], pinned: PinnedBlobs) -> None:
    for part in parts:
        if part.content is not None:
            found_bytes = (pinned.folder / part.content).stat().st_size
            if found_bytes != part.member.size_bytes:
                raise wrong_length(part.content, found_bytes, part.member.size_bytes)


async def _crc32(part: DownloadPart, content: OpenBlob) -> int:
    crc32, digest = 0, hashlib.sha256()
    async for chunk in content.chunks(0, content.size_bytes):
        crc32 = isal_zlib.crc32(chunk, crc32)
        if part.sha256:
            await asyncio.to_thread(digest.update, chunk)
    if part.content and part.sha256 and digest.hexdigest() != part.sha256:
        raise wrong_hash(part.content, digest.hexdigest())
    return crc32


def _part(row: EntryRow | EntrySummary) -> DownloadPart:
    mtime = int(row.modified_at.timestamp())
    member = StreamMember(row.path, mtime, row.size_bytes, is_folder=row.type == FOLDER)
    return DownloadPart(member, row.blob_key, row.sha256)
