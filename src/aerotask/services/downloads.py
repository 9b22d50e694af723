"""A small selection of a dataset as a ZIP at once, from the stored contents alone; a larger one is a task."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from isal import isal_zlib

from aerotask.archives.zip_stream import Member, StreamWriter, streamed_bytes
from aerotask.blobs.port import BlobStore, OpenBlob
from aerotask.domain import paths
from aerotask.domain.access import Caller
from aerotask.domain.errors import NotFound, UseTask
from aerotask.services.access import AccessService
from aerotask.store import entries
from aerotask.store.engine import Database
from aerotask.store.entries import FOLDER, EntryRow
from aerotask.store.submits import BULK_DOWNLOAD

MAX_STREAMED_ENTRIES = 10_000
GATHER_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Selection:
    """What is to be streamed, and under which name."""

    file_name: str
    rows: tuple[EntryRow, ...]

    @property
    def length(self) -> int:
        """The length of the ZIP."""
        return streamed_bytes(map(_member, self.rows))


@dataclass(frozen=True, slots=True)
class DownloadService:
    """Gives selections of entries to download."""

    db: Database
    blobs: BlobStore
    access: AccessService
    threshold_bytes: int

    async def select(
        self, caller: Caller, org_slug: str, slug: str, named: Sequence[str]
    ) -> Selection | EntryRow:
        """The one file that is named, or what to stream: the named entries with all below; all if none is named.

        Raises:
            NotFound: there is nothing at one of the paths.
            UseTask: it is more than is streamed at once.
        """
        wanted = list(dict.fromkeys(map(paths.entry_path, named)))
        dataset = (await self.access.dataset(caller, org_slug, slug)).row
        async with self.db.read() as connection:
            if len(wanted) == 1:
                only = await entries.find(connection, dataset.id, wanted[0])
                if only is not None and only.type != FOLDER:
                    return only
            size = await entries.measure(connection, dataset.id, wanted or [""])
            self._refuse_large(size, wanted)
            rows = await entries.find_within(connection, dataset.id, wanted or [""])
        there = {row.path for row in rows}
        missing = next((path for path in wanted if path not in there), None)
        if missing is not None:
            raise NotFound(f"The dataset has no entry {paths.shown(missing)}.", code="no-such-entry")
        stem = paths.base_name(wanted[0]) if len(wanted) == 1 else dataset.slug
        return Selection(f"{stem}.zip", tuple(rows))

    async def chunks(self, selection: Selection) -> AsyncIterator[bytes]:
        """The bytes of the ZIP.

        Each content is read twice, first for its checksum, which stands before it.

        Raises:
            OSError: a content can't be read any more; what was sent so far is no whole ZIP.
        """
        writer = StreamWriter()
        gathered = bytearray()
        for row in selection.rows:
            async for piece in self._member_chunks(writer, row):
                gathered += piece
                if len(gathered) >= GATHER_BYTES:
                    yield bytes(gathered)
                    gathered.clear()
        yield bytes(gathered) + writer.tail()

    async def _member_chunks(self, writer: StreamWriter, row: EntryRow) -> AsyncIterator[bytes]:
        if row.blob_key is None:
            yield writer.head(_member(row))
            return
        content = await self.blobs.open(row.blob_key)
        try:
            yield writer.head(_member(row), await _crc32(content))
            async for piece in content.chunks(0, row.size_bytes):
                yield piece
        finally:
            await content.close()

    def _refuse_large(self, size: entries.Measure, wanted: Sequence[str]) -> None:
        if size.size_bytes <= self.threshold_bytes and size.count <= MAX_STREAMED_ENTRIES:
            return
        raise UseTask(
            f"The selection has {size.count} entries with {size.size_bytes} bytes; at once, up to "
            f"{MAX_STREAMED_ENTRIES} entries with {self.threshold_bytes} bytes are sent. Submit the task in 'task'.",
            tool_id=BULK_DOWNLOAD,
            params={"paths": list(wanted) or None},
            code="use-bulk-download",
        )


async def _crc32(content: OpenBlob) -> int:
    crc32 = 0
    async for piece in content.chunks(0, content.size_bytes):
        crc32 = isal_zlib.crc32(piece, crc32)
    return crc32


def _member(row: EntryRow) -> Member:
    return Member(row.path, int(row.modified_at.timestamp()), row.size_bytes, is_folder=row.type == FOLDER)
