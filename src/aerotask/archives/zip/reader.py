"""Extracts a ZIP file: threads share its descriptor, and each content must be what its headers promise."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from isal import isal_zlib

from aerotask.archives import decompress, errors
from aerotask.archives.extract_dir import ExtractDir, new_file
from aerotask.archives.member_filter import ExpansionLimit, MemberFilter
from aerotask.archives.promise import AnnouncedTotals
from aerotask.archives.zip.central_directory import (
    BZIP2,
    DEFLATE,
    ZSTD,
    ZipMember,
    locate_contents,
    read_directory,
)
from aerotask.archives.zip.records import STORED

PACKED_BYTES = 64 * 1024
"""How much of a packed content is read at a time."""
STORED_BYTES = 256 * 1024
"""Likewise of a stored one: through one buffer, small enough to stay in the processor's cache on its way."""
SHARE_BYTES = 4 * 1024 * 1024
"""How much of small members a thread takes at a time."""
SHARE_COUNT = 256
MAX_THREADS = 8
_UNPACKERS: Mapping[int, Callable[[], decompress.Decompressor]] = {
    DEFLATE: decompress.deflate,
    BZIP2: decompress.bzip2,
    ZSTD: decompress.zstd,
}


@dataclass(frozen=True, slots=True)
class _ZipEntry:
    """A member to extract: where its content lies in the archive, and where it goes."""

    member: ZipMember
    content_at: int
    path: str
    file: Path


def extract_zip(  # noqa: PLR0913  what comes in, what may come out, and who is told
    archive: Path,
    *,
    intake: MemberFilter,
    gauge: ExpansionLimit,
    outlet: ExtractDir,
    is_wanted: Callable[[str], bool],
    on_promise: Callable[[AnnouncedTotals], None],
    on_progress: Callable[[int], None],
    threads: int,
) -> None:
    """Extract the wanted files of a ZIP file into the outlet.

    The whole directory is checked before the first byte comes out; `on_promise` may refuse what it promises,
    `on_progress` hears how many bytes came out so far.

    Raises:
        InvalidInput: the archive is damaged, hostile or over a limit.
    """
    with _opened(archive) as (descriptor, file_bytes):
        directory = read_directory(descriptor, file_bytes, max_members=intake.limits.extracted_entries)
        gauge.expect(sum(member.size_bytes for member in directory.members))
        wanted = list(_choose(locate_contents(descriptor, directory), intake, outlet, is_wanted))
        on_promise(AnnouncedTotals(len(wanted), sum(item.member.size_bytes for item in wanted)))
        job = _ZipRun(descriptor, gauge, outlet)
        with ThreadPoolExecutor(min(max(threads, 1), MAX_THREADS)) as pool:
            try:
                for share in _in_order(pool, job, wanted, depth=2 * threads + 2):
                    for item in share:
                        outlet.add(item.path, item.file, item.member.size_bytes)
                    on_progress(gauge.total)
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


def _choose(
    located: Iterator[tuple[ZipMember, int]],
    intake: MemberFilter,
    outlet: ExtractDir,
    is_wanted: Callable[[str], bool],
) -> Iterator[_ZipEntry]:
    for member, content_at in located:
        if member.is_folder:
            intake.folder(member.name)
            continue
        path = intake.file(member.name)
        if path is not None and is_wanted(path):
            yield _ZipEntry(member, content_at, path, outlet.reserve())


def _in_order(
    pool: ThreadPoolExecutor, job: _ZipRun, wanted: Sequence[_ZipEntry], *, depth: int
) -> Iterator[list[_ZipEntry]]:
    """The shares as they are done, never more than `depth` of them under way."""
    shares = _shares(wanted)

    def begin(share: list[_ZipEntry]) -> Future[list[_ZipEntry]]:
        return pool.submit(job.extract_share, share)

    waiting = deque(map(begin, islice(shares, depth)))
    while waiting:
        yield waiting.popleft().result()
        waiting.extend(map(begin, islice(shares, 1)))


def _shares(wanted: Sequence[_ZipEntry]) -> Iterator[list[_ZipEntry]]:
    share: list[_ZipEntry] = []
    share_bytes = 0
    for item in wanted:
        share.append(item)
        share_bytes += item.member.size_bytes
        if share_bytes >= SHARE_BYTES or len(share) >= SHARE_COUNT:
            yield share
            share, share_bytes = [], 0
    if share:
        yield share


@dataclass(frozen=True, slots=True)
class _ZipRun:
    """What the threads share."""

    descriptor: int
    gauge: ExpansionLimit
    outlet: ExtractDir

    def extract_share(self, share: list[_ZipEntry]) -> list[_ZipEntry]:
        """Extract each of them whole."""
        stored = (item.member.stored_bytes for item in share if item.member.method == STORED)
        buffer = memoryview(bytearray(min(STORED_BYTES, max(stored, default=0))))
        for item in share:
            with new_file(item.file) as target:
                self._extract(item, target, buffer)
        return share

    def _extract(self, item: _ZipEntry, target: int, buffer: memoryview) -> None:
        member = item.member
        unpacker = _UNPACKERS.get(member.method)
        content: Iterator[bytes | memoryview]
        if unpacker is None:
            content = _stored(self.descriptor, item.content_at, member.stored_bytes, buffer)
        else:
            packed = _packed(self.descriptor, item.content_at, member.stored_bytes)
            content = decompress.unpack_one(packed, unpacker())
        crc32 = size_bytes = 0
        for piece in content:
            size_bytes += len(piece)
            if size_bytes > member.size_bytes:
                raise errors.damaged(
                    f"{item.path} is longer than the {member.size_bytes} bytes that it declares"
                )
            self.gauge.add(len(piece))
            crc32 = isal_zlib.crc32(piece, crc32)
            self.outlet.write(target, piece)
        if size_bytes != member.size_bytes:
            raise errors.damaged(f"{item.path} has {size_bytes} bytes where {member.size_bytes} are declared")
        if crc32 != member.crc32:
            raise errors.damaged(f"the checksum of {item.path} is wrong")


def _packed(descriptor: int, at: int, count: int) -> Iterator[bytes]:
    end = at + count
    while at < end:
        piece = os.pread(descriptor, min(PACKED_BYTES, end - at), at)
        if not piece:
            raise errors.damaged("it is cut off")
        at += len(piece)
        yield piece


def _stored(descriptor: int, at: int, count: int, buffer: memoryview) -> Iterator[memoryview]:
    """As `_packed`, through the buffer, whose bytes hold until the next piece is asked for."""
    end = at + count
    while at < end:
        got = os.preadv(descriptor, [buffer[: end - at]], at)
        if not got:
            raise errors.damaged("it is cut off")
        at += got
        yield buffer[:got]
