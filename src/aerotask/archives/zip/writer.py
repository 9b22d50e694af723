"""Writes a ZIP file fast: members are read, checked and deflated by threads, and laid down in order by one.

Every local header has the real sizes and the CRC-32, so the file can also be read as a stream. Small members are
gathered into one write; the content of large stored ones is copied by the kernel. The file's SHA-256 follows in a
thread of its own.
"""

from __future__ import annotations

import errno
import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from io import FileIO
from pathlib import Path

from isal import isal_zlib

from aerotask.archives.media_packing import is_packed
from aerotask.archives.trailing_hash import TrailingHash
from aerotask.archives.zip.deflate import MAX_RATIO, Deflater, deflated
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
GATHER_BYTES = MIB
"""Members up to this size are gathered, together up to this size, into one write."""
GATHER_COUNT = 512
HELD_BYTES = 16 * MIB
"""Members up to this size are deflated in memory, several at a time; larger ones straight into the file."""
MAX_THREADS = 8
DIRECTORY_BATCH = 4096
_READ_BYTES = MIB
SENDFILE_BYTES = 1024 * MIB
# Between file systems, and on those that can't: then the kernel copies in another way.
_NO_COPY_RANGE = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})


@dataclass(frozen=True, slots=True)
class ZipSource:
    """A file to pack, or without `file` a folder; `path` is its dataset path, `mtime` Unix seconds."""

    path: str
    mtime: int
    file: Path | None = None
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class ZipResult:
    """What a ZIP file became."""

    sha256: str
    size_bytes: int
    members: int


Progress = Callable[[int], None]
"""Told how many bytes of the sources have been packed so far."""


def write_zip(
    target: Path,
    sources: Iterable[ZipSource],
    *,
    threads: int,
    on_progress: Progress,
    max_ratio: int = MAX_RATIO,
) -> ZipResult:
    """Pack the sources, in their order, into the new file `target`; no content shrinks by more than `max_ratio`.

    Raises:
        FileExistsError: there is a file at `target`.
        OSError: a source is shorter or longer than it says, or the disk is full.
    """
    descriptor = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    workers = min(max(threads, 1), MAX_THREADS)
    try:
        with TrailingHash(descriptor) as digest, ThreadPoolExecutor(workers) as pool:
            lay = _OrderedWriter(descriptor, digest, max_ratio)
            packed = 0
            try:
                for done in _ahead(pool, _portions(sources), depth=workers + 1, max_ratio=max_ratio):
                    packed += lay.put(done)
                    on_progress(packed)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
            lay.finish()
            return ZipResult(digest.hexdigest(), lay.offset, len(lay.records))
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A portion of the file to be: complete bytes, or a large source whose record says what is known of it."""

    data: bytes | bytearray
    records: tuple[Record, ...]
    """Their offsets count from the beginning of the portion."""
    source_bytes: int
    rest: ZipSource | None = None
    """A source whose content follows."""


def _portions(sources: Iterable[ZipSource]) -> Iterator[list[ZipSource]]:
    """The sources in runs of small ones; a large one by itself."""
    gathered: list[ZipSource] = []
    gathered_bytes = 0
    for source in sources:
        full = gathered_bytes + source.size_bytes > GATHER_BYTES or len(gathered) >= GATHER_COUNT
        if gathered and full:
            yield gathered
            gathered, gathered_bytes = [], 0
        if source.size_bytes > GATHER_BYTES:
            yield [source]
        else:
            gathered.append(source)
            gathered_bytes += source.size_bytes
    if gathered:
        yield gathered


def _ahead(
    pool: ThreadPoolExecutor, portions: Iterator[list[ZipSource]], *, depth: int, max_ratio: int
) -> Iterator[_Prepared]:
    """The portions in order, prepared by the pool, never more than `depth` of them held."""
    waiting: deque[Future[_Prepared]] = deque(
        pool.submit(_prepare, portion, max_ratio) for portion in itertools.islice(portions, depth)
    )
    while waiting:
        done = waiting.popleft().result()
        yield done
        for portion in itertools.islice(portions, 1):
            waiting.append(pool.submit(_prepare, portion, max_ratio))


def _prepare(portion: list[ZipSource], max_ratio: int) -> _Prepared:
    if len(portion) == 1 and portion[0].size_bytes > GATHER_BYTES:
        return _prepare_large(portion[0], max_ratio)
    data = bytearray()
    records: list[Record] = []
    for source in portion:
        record, content = _small(source, max_ratio)
        records.append(replace(record, offset=len(data)))
        data += local_header(record)
        data += content
    return _Prepared(data, tuple(records), sum(source.size_bytes for source in portion))


def _small(source: ZipSource, max_ratio: int) -> tuple[Record, bytes]:
    if source.file is None:
        return folder_record(source.path, source.mtime), b""
    content = _whole(source)
    crc32 = isal_zlib.crc32(content)
    if not is_packed(source.path):
        packed = deflated(content, max_ratio)
        if len(packed) < len(content):
            return _record(source, DEFLATED, crc32, len(packed)), packed
    return _record(source, STORED, crc32, len(content)), content


def _prepare_large(source: ZipSource, max_ratio: int) -> _Prepared:
    if is_packed(source.path):
        record = _record(source, STORED, _crc32(source), source.size_bytes)
        return _Prepared(local_header(record), (record,), source.size_bytes, source)
    if source.size_bytes > HELD_BYTES:
        record = _record(source, DEFLATED, 0, 0)
        return _Prepared(local_header(record, wide=True), (record,), source.size_bytes, source)
    packer = Deflater(max_ratio)
    packed = bytearray()
    crc32 = 0
    for piece in _pieces(source):
        crc32 = isal_zlib.crc32(piece, crc32)
        packed += packer.feed(piece)
    packed += packer.end()
    if len(packed) >= source.size_bytes:
        record = _record(source, STORED, crc32, source.size_bytes)
        return _Prepared(local_header(record), (record,), source.size_bytes, source)
    record = _record(source, DEFLATED, crc32, len(packed))
    return _Prepared(local_header(record) + packed, (record,), source.size_bytes)


class _OrderedWriter:
    """Lays portions down one after the other, and the directory last."""

    def __init__(self, descriptor: int, digest: TrailingHash, max_ratio: int) -> None:
        self._descriptor = descriptor
        self._max_ratio = max_ratio
        self._digest = digest
        self.offset = 0
        self.records: list[Record] = []

    def put(self, portion: _Prepared) -> int:
        """Write a portion; how many bytes of sources it held."""
        begin = self.offset
        self._write(portion.data)
        if portion.rest is None:
            self.records += [replace(record, offset=begin + record.offset) for record in portion.records]
        else:
            record = replace(portion.records[0], offset=begin)
            if record.method == STORED:
                self._copy(portion.rest)
            else:
                record = self._deflate(portion.rest, record)
            self.records.append(record)
        self._digest.advance(self.offset)
        return portion.source_bytes

    def finish(self) -> None:
        """Write the central directory and the end."""
        directory_at = self.offset
        for begin in range(0, len(self.records), DIRECTORY_BATCH):
            self._write(b"".join(map(central_header, self.records[begin : begin + DIRECTORY_BATCH])))
        self._write(
            end_records(
                count=len(self.records),
                directory_at=directory_at,
                directory_bytes=self.offset - directory_at,
            )
        )
        self._digest.advance(self.offset)

    def _write(self, data: bytes | bytearray) -> None:
        view = memoryview(data)
        while view:
            written = os.write(self._descriptor, view)
            self.offset += written
            view = view[written:]

    def _copy(self, source: ZipSource) -> None:
        """Append a file's bytes without bringing them into this process."""
        with _opened(source) as content:
            left = source.size_bytes
            while left:
                copied = _copy_range(content.fileno(), self._descriptor, left)
                if not copied:
                    raise _changed(source)
                left -= copied
                self.offset += copied

    def _deflate(self, source: ZipSource, record: Record) -> Record:
        """Append a large file's deflated bytes, then put the real sizes into the header before them."""
        begin = self.offset
        packer = Deflater(self._max_ratio)
        crc32 = 0
        for piece in _pieces(source):
            crc32 = isal_zlib.crc32(piece, crc32)
            self._write(packer.feed(piece))
        self._write(packer.end())
        final = replace(record, crc32=crc32, stored_bytes=self.offset - begin, size_bytes=source.size_bytes)
        os.pwrite(self._descriptor, local_header(final, wide=True), record.offset)
        return final


def _record(source: ZipSource, method: int, crc32: int, stored_bytes: int) -> Record:
    return Record(encoded_name(source.path), source.mtime, method, crc32, stored_bytes, source.size_bytes)


def _crc32(source: ZipSource) -> int:
    crc32 = 0
    for piece in _pieces(source):
        crc32 = isal_zlib.crc32(piece, crc32)
    return crc32


def _pieces(source: ZipSource) -> Iterator[memoryview]:
    """The content through one buffer, whose bytes hold until the next piece is asked for."""
    buffer = memoryview(bytearray(_READ_BYTES))
    left = source.size_bytes
    with _opened(source) as content:
        while got := content.readinto(buffer):
            if got > left:
                raise _changed(source)
            left -= got
            yield buffer[:got]
    if left:
        raise _changed(source)


def _whole(source: ZipSource) -> bytes:
    with _opened(source) as content:
        data = content.read(source.size_bytes + 1)
    if len(data) != source.size_bytes:
        raise _changed(source)
    return data


def _opened(source: ZipSource) -> FileIO:
    if source.file is None:
        raise ValueError("a folder has no content")
    return FileIO(source.file)


def _copy_range(source: int, target: int, count: int) -> int:
    try:
        return os.copy_file_range(source, target, count)
    except OSError as error:
        if error.errno not in _NO_COPY_RANGE:
            raise
        return os.sendfile(target, source, None, min(count, SENDFILE_BYTES))


def _changed(source: ZipSource) -> OSError:
    return OSError(errno.EIO, f"a file of {source.size_bytes} bytes has another length now")
