"""ZIP extraction: threads share one descriptor, and each content is checked against its headers."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from isal import isal_zlib

from aerotask.archives import errors
from aerotask.archives.decoder_memory import DecoderMemory
from aerotask.archives.extract_dir import new_file
from aerotask.archives.extract_request import ExtractRequest
from aerotask.archives.zip.central_directory import ZipMember, locate_contents, read_directory
from aerotask.archives.zip.methods import decompressed
from aerotask.archives.zip.records import STORED

COMPRESSED_BYTES = 64 * 1024
"""Compressed bytes read at a time."""
STORED_BYTES = 256 * 1024
"""Stored bytes read at a time: small enough for the buffer to stay in the processor's cache."""
BATCH_BYTES = 4 * 1024 * 1024
"""Bytes of small members that a thread extracts at a time."""
BATCH_COUNT = 256
MAX_THREADS = 8


@dataclass(frozen=True, slots=True)
class _ZipEntry:
    """A member to extract: the offset of its content in the archive, its entry path and its target file."""

    member: ZipMember
    content_at: int
    path: str
    file: Path


def extract_zip(request: ExtractRequest) -> None:
    """Extract the wanted files of a ZIP file; the whole central directory is checked before anything is written.

    Raises:
        InvalidInput: the archive is damaged, hostile or over a limit.
    """
    with _opened(request.archive) as (descriptor, file_bytes):
        directory = read_directory(
            descriptor,
            file_bytes,
            max_members=request.limits.extracted_entries,
            decoder=request.names,
        )
        request.expansion.check(sum(member.size_bytes for member in directory.members))
        wanted = list(_choose(locate_contents(descriptor, directory), request))
        request.announce(files=len(wanted), size_bytes=sum(entry.member.size_bytes for entry in wanted))
        with ThreadPoolExecutor(min(max(request.threads, 1), MAX_THREADS)) as pool:
            try:
                for batch in _extract_in_order(pool, descriptor, request, wanted):
                    for entry in batch:
                        member = entry.member
                        request.extract_dir.add(entry.path, entry.file, member.size_bytes, member.mtime)
                    request.report_extracted()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise


@contextmanager
def _opened(archive: Path) -> Iterator[tuple[int, int]]:
    descriptor = os.open(archive, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield descriptor, os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)


def _choose(located: Iterator[tuple[ZipMember, int]], request: ExtractRequest) -> Iterator[_ZipEntry]:
    for member, content_at in located:
        if member.is_folder:
            request.member_filter.add_folder(member.name, member.mtime)
            continue
        path = request.member_filter.add_file(member.name)
        if path is not None and request.is_wanted(path):
            yield _ZipEntry(member, content_at, path, request.extract_dir.new_path())


def _extract_in_order(
    pool: ThreadPoolExecutor, descriptor: int, request: ExtractRequest, wanted: Sequence[_ZipEntry]
) -> Iterator[list[_ZipEntry]]:
    """The batches in order as they are extracted; the number in flight is bounded."""
    batches = _batches(wanted)

    def submit(batch: list[_ZipEntry]) -> Future[list[_ZipEntry]]:
        return pool.submit(_extract_batch, batch, descriptor, request)

    pending = deque(map(submit, islice(batches, 2 * request.threads + 2)))
    while pending:
        yield pending.popleft().result()
        pending.extend(map(submit, islice(batches, 1)))


def _batches(wanted: Sequence[_ZipEntry]) -> Iterator[list[_ZipEntry]]:
    batch: list[_ZipEntry] = []
    batch_bytes = 0
    for entry in wanted:
        batch.append(entry)
        batch_bytes += entry.member.size_bytes
        if batch_bytes >= BATCH_BYTES or len(batch) >= BATCH_COUNT:
            yield batch
            batch, batch_bytes = [], 0
    if batch:
        yield batch


def _extract_batch(batch: list[_ZipEntry], descriptor: int, request: ExtractRequest) -> list[_ZipEntry]:
    """Extract each member of a batch; runs in a thread of the pool."""
    stored = (entry.member.stored_bytes for entry in batch if entry.member.method == STORED)
    buffer = memoryview(bytearray(min(STORED_BYTES, max(stored, default=0))))
    for entry in batch:
        with new_file(entry.file) as target:
            _extract(entry, descriptor, target, buffer, request)
    return batch


def _extract(
    entry: _ZipEntry, descriptor: int, target: int, buffer: memoryview, request: ExtractRequest
) -> None:
    member = entry.member
    crc32 = size_bytes = 0
    for chunk in _content(entry, descriptor, buffer, request.decoder_memory):
        size_bytes += len(chunk)
        if size_bytes > member.size_bytes:
            raise errors.damaged(
                f"{entry.path} is longer than the {member.size_bytes} bytes that it declares"
            )
        request.expansion.add(len(chunk))
        crc32 = isal_zlib.crc32(chunk, crc32)
        request.extract_dir.write(target, chunk)
    if size_bytes != member.size_bytes:
        raise errors.damaged(f"{entry.path} has {size_bytes} bytes where {member.size_bytes} are declared")
    if crc32 != member.crc32:
        raise errors.damaged(f"the checksum of {entry.path} is wrong")


def _content(
    entry: _ZipEntry, descriptor: int, buffer: memoryview, memory: DecoderMemory
) -> Iterator[bytes | memoryview]:
    member = entry.member
    if member.method == STORED:
        return _read_stored(descriptor, entry.content_at, member.stored_bytes, buffer)
    compressed = _read_compressed(descriptor, entry.content_at, member.stored_bytes)
    return decompressed(
        member.method, compressed, size_bytes=member.size_bytes, flags=member.flags, memory=memory
    )


def _read_compressed(descriptor: int, offset: int, count: int) -> Iterator[bytes]:
    end = offset + count
    while offset < end:
        chunk = os.pread(descriptor, min(COMPRESSED_BYTES, end - offset), offset)
        if not chunk:
            raise errors.damaged("it is truncated")
        offset += len(chunk)
        yield chunk


def _read_stored(descriptor: int, offset: int, count: int, buffer: memoryview) -> Iterator[memoryview]:
    """Chunks in one reused buffer: each is valid only until the next is requested."""
    end = offset + count
    while offset < end:
        got = os.preadv(descriptor, [buffer[: end - offset]], offset)
        if not got:
            raise errors.damaged("it is truncated")
        offset += got
        yield buffer[:got]
