"""ZIP writer: threads read and deflate members, one thread writes them in order.

Every local header has the final sizes and the CRC-32, so the file can also be read as a stream. Small members are
batched into one write; the content of large stored ones is copied by the kernel. The file's SHA-256 is computed in a
separate thread. ADR 9 compares it with zipfile and the streaming libraries.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from io import FileIO
from pathlib import Path

from isal import isal_zlib

from aerotask.archives.trailing_hash import TrailingHash
from aerotask.archives.zip.deflate import MAX_RATIO, Deflater, deflated, is_compressed
from aerotask.archives.zip.records import (
    DEFLATED,
    STORED,
    Record,
    central_header,
    encoded_name,
    end_records,
    folder_record,
    local_header,
)

MIB = 1024 * 1024
BATCH_BYTES = MIB
"""Members up to this size are batched into one write of up to this size."""
BATCH_COUNT = 512
IN_MEMORY_BYTES = 16 * MIB
"""Members up to this size are deflated in memory, several at a time; larger ones directly into the file."""
MAX_THREADS = 8
DIRECTORY_BATCH = 4096
_READ_BYTES = MIB
SENDFILE_BYTES = 1024 * MIB
# Raised between file systems, and on those without copy_file_range; sendfile copies instead.
_NO_COPY_RANGE = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})


@dataclass(frozen=True, slots=True)
class ZipSource:
    """File to add, or without `file` a folder; `path` is its dataset path, `mtime` Unix seconds."""

    path: str
    mtime: int
    file: Path | None = None
    size_bytes: int = 0
    sha256: str | None = None
    """The hash that the content must have, if known."""


class DamagedSource(Exception):
    """A source whose content doesn't have the hash that it must have."""

    def __init__(self, path: str, sha256: str) -> None:
        super().__init__(path)
        self.path = path
        self.sha256 = sha256


@dataclass(frozen=True, slots=True)
class ZipResult:
    """Hash, size and member count of a written ZIP file."""

    sha256: str
    size_bytes: int
    members: int


Progress = Callable[[int], None]
"""Called with the number of source bytes written so far."""


def write_zip(
    target: Path,
    sources: Iterable[ZipSource],
    *,
    threads: int,
    on_progress: Progress,
    max_ratio: int = MAX_RATIO,
) -> ZipResult:
    """Write the sources, in order, to the new file `target`; no content shrinks by more than `max_ratio`.

    Raises:
        FileExistsError: `target` exists.
        OSError: a source's size differs from its declared one, or the disk is full.
        DamagedSource: a source's hash differs from its declared one.
    """
    descriptor = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    workers = min(max(threads, 1), MAX_THREADS)
    try:
        with TrailingHash(descriptor) as digest, ThreadPoolExecutor(workers) as pool:
            writer = _OrderedWriter(descriptor, digest, max_ratio)
            written_bytes = 0
            try:
                for chunk in _prepare_ahead(pool, _batches(sources), depth=workers + 1, max_ratio=max_ratio):
                    written_bytes += writer.write(chunk)
                    on_progress(written_bytes)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
            writer.finish()
            return ZipResult(digest.hexdigest(), writer.offset, len(writer.records))
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Prepared chunk of the file: complete bytes, or the header of a large source whose content is still to come."""

    data: bytes | bytearray
    records: tuple[Record, ...]
    """Records with offsets from the start of the chunk."""
    source_bytes: int
    content_of: ZipSource | None = None
    """Source whose content follows the header."""


def _batches(sources: Iterable[ZipSource]) -> Iterator[list[ZipSource]]:
    """Batches of small sources; a large source is a batch by itself."""
    batch: list[ZipSource] = []
    batch_bytes = 0
    for source in sources:
        full = batch_bytes + source.size_bytes > BATCH_BYTES or len(batch) >= BATCH_COUNT
        if batch and full:
            yield batch
            batch, batch_bytes = [], 0
        if source.size_bytes > BATCH_BYTES:
            yield [source]
        else:
            batch.append(source)
            batch_bytes += source.size_bytes
    if batch:
        yield batch


def _prepare_ahead(
    pool: ThreadPoolExecutor, batches: Iterator[list[ZipSource]], *, depth: int, max_ratio: int
) -> Iterator[_Chunk]:
    """Chunks in order, prepared by the pool; at most `depth` are in memory."""
    pending: deque[Future[_Chunk]] = deque(
        pool.submit(_prepare, batch, max_ratio) for batch in itertools.islice(batches, depth)
    )
    while pending:
        yield pending.popleft().result()
        for batch in itertools.islice(batches, 1):
            pending.append(pool.submit(_prepare, batch, max_ratio))


def _prepare(batch: list[ZipSource], max_ratio: int) -> _Chunk:
    if len(batch) == 1 and batch[0].size_bytes > BATCH_BYTES:
        return _prepare_large(batch[0], max_ratio)
    data = bytearray()
    records: list[Record] = []
    for source in batch:
        record, content = _small(source, max_ratio)
        records.append(replace(record, offset=len(data)))
        data += local_header(record)
        data += content
    return _Chunk(data, tuple(records), sum(source.size_bytes for source in batch))


def _small(source: ZipSource, max_ratio: int) -> tuple[Record, bytes]:
    if source.file is None:
        return folder_record(source.path, source.mtime), b""
    content = _read_whole(source)
    crc32 = isal_zlib.crc32(content)
    if not is_compressed(source.path):
        compressed = deflated(content, max_ratio)
        if len(compressed) < len(content):
            return _record(source, DEFLATED, crc32, len(compressed)), compressed
    return _record(source, STORED, crc32, len(content)), content


def _prepare_large(source: ZipSource, max_ratio: int) -> _Chunk:
    if is_compressed(source.path):
        record = _record(source, STORED, _crc32(source), source.size_bytes)
        return _Chunk(local_header(record), (record,), source.size_bytes, source)
    if source.size_bytes > IN_MEMORY_BYTES:
        record = _record(source, DEFLATED, 0, 0)
        return _Chunk(local_header(record, wide=True), (record,), source.size_bytes, source)
    deflater = Deflater(max_ratio)
    compressed = bytearray()
    crc32 = 0
    for data in _read_chunks(source):
        crc32 = isal_zlib.crc32(data, crc32)
        compressed += deflater.feed(data)
    compressed += deflater.end()
    if len(compressed) >= source.size_bytes:
        record = _record(source, STORED, crc32, source.size_bytes)
        return _Chunk(local_header(record), (record,), source.size_bytes, source)
    record = _record(source, DEFLATED, crc32, len(compressed))
    return _Chunk(local_header(record) + compressed, (record,), source.size_bytes)


class _OrderedWriter:
    """Writes chunks in order, and the central directory at the end."""

    def __init__(self, descriptor: int, digest: TrailingHash, max_ratio: int) -> None:
        self._descriptor = descriptor
        self._max_ratio = max_ratio
        self._digest = digest
        self.offset = 0
        self.records: list[Record] = []

    def write(self, chunk: _Chunk) -> int:
        """Write a chunk; returns the number of source bytes in it."""
        begin = self.offset
        self._write_bytes(chunk.data)
        if chunk.content_of is None:
            self.records += [replace(record, offset=begin + record.offset) for record in chunk.records]
        else:
            record = replace(chunk.records[0], offset=begin)
            if record.method == STORED:
                self._copy(chunk.content_of)
            else:
                record = self._deflate(chunk.content_of, record)
            self.records.append(record)
        self._digest.advance(self.offset)
        return chunk.source_bytes

    def finish(self) -> None:
        """Write the central directory and the end records."""
        directory_at = self.offset
        for begin in range(0, len(self.records), DIRECTORY_BATCH):
            self._write_bytes(b"".join(map(central_header, self.records[begin : begin + DIRECTORY_BATCH])))
        self._write_bytes(
            end_records(
                count=len(self.records),
                directory_at=directory_at,
                directory_bytes=self.offset - directory_at,
            )
        )
        self._digest.advance(self.offset)

    def _write_bytes(self, data: bytes | bytearray) -> None:
        view = memoryview(data)
        while view:
            written = os.write(self._descriptor, view)
            self.offset += written
            view = view[written:]

    def _copy(self, source: ZipSource) -> None:
        """Append a file's bytes, copied by the kernel."""
        with _opened(source) as content:
            left = source.size_bytes
            while left:
                copied = _copy_file_range(content.fileno(), self._descriptor, left)
                if not copied:
                    raise _changed(source)
                left -= copied
                self.offset += copied

    def _deflate(self, source: ZipSource, record: Record) -> Record:
        """Append a large file's deflated bytes, then overwrite its header with the final sizes."""
        begin = self.offset
        deflater = Deflater(self._max_ratio)
        crc32 = 0
        for data in _read_chunks(source):
            crc32 = isal_zlib.crc32(data, crc32)
            self._write_bytes(deflater.feed(data))
        self._write_bytes(deflater.end())
        final = replace(record, crc32=crc32, stored_bytes=self.offset - begin, size_bytes=source.size_bytes)
        os.pwrite(self._descriptor, local_header(final, wide=True), record.offset)
        return final


def _record(source: ZipSource, method: int, crc32: int, stored_bytes: int) -> Record:
    return Record(encoded_name(source.path), source.mtime, method, crc32, stored_bytes, source.size_bytes)


def _crc32(source: ZipSource) -> int:
    crc32 = 0
    for data in _read_chunks(source):
        crc32 = isal_zlib.crc32(data, crc32)
    return crc32


def _read_chunks(source: ZipSource) -> Iterator[memoryview]:
    """Chunks of the content in one reused buffer: each is valid only until the next is requested."""
    buffer = memoryview(bytearray(_READ_BYTES))
    left = source.size_bytes
    digest = hashlib.sha256()
    with _opened(source) as content:
        while got := content.readinto(buffer):
            if got > left:
                raise _changed(source)
            left -= got
            if source.sha256:
                digest.update(buffer[:got])
            yield buffer[:got]
    if left:
        raise _changed(source)
    _check_hash(source, digest)


def _read_whole(source: ZipSource) -> bytes:
    with _opened(source) as content:
        data = content.read(source.size_bytes + 1)
    if len(data) != source.size_bytes:
        raise _changed(source)
    if source.sha256:
        _check_hash(source, hashlib.sha256(data))
    return data


def _check_hash(source: ZipSource, digest: hashlib._Hash) -> None:
    if source.sha256 and digest.hexdigest() != source.sha256:
        raise DamagedSource(source.path, digest.hexdigest())


def _opened(source: ZipSource) -> FileIO:
    if source.file is None:
        raise ValueError("a folder has no content")
    return FileIO(source.file)


def _copy_file_range(source: int, target: int, count: int) -> int:
    try:
        return os.copy_file_range(source, target, count)
    except OSError as error:
        if error.errno not in _NO_COPY_RANGE:
            raise
        return os.sendfile(target, source, None, min(count, SENDFILE_BYTES))


def _changed(source: ZipSource) -> OSError:
    return OSError(
        errno.EIO, f"a source of {source.size_bytes} bytes changed its length while it was being added"
    )
