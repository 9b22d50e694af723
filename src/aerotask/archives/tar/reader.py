"""TAR extraction from a stream of bounded chunks, one member after the other."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from aerotask.archives import errors
from aerotask.archives.extract_dir import ExtractedFile, new_file
from aerotask.archives.extract_request import ExtractRequest
from aerotask.archives.tar.headers import (
    BLOCK_BYTES,
    MAX_EXTENDED_BYTES,
    Extended,
    Header,
    parse_header,
    read_extended,
)
from aerotask.archives.tar.sparse import SPARSE_KIND, SparseMap, read_sparse_map
from aerotask.domain.errors import InvalidInput

_LONG_NAME, _LONG_LINK, _GLOBAL = b"L", b"K", b"g"
_LOCAL = frozenset({b"x", b"X"})
_EXTENDED = frozenset({_LONG_NAME, _LONG_LINK, _GLOBAL, *_LOCAL})
_FILES, _FOLDERS = frozenset({b"0", b"7", SPARSE_KIND}), frozenset({b"5", b"D"})
_HARD_LINK, _LABEL, _CONTINUED = b"1", b"V", b"M"
_KINDS = {
    b"2": "symbolic link",
    b"3": "device",
    b"4": "device",
    b"6": "pipe",
}
_WITHOUT_CONTENT = frozenset({_HARD_LINK, *_KINDS})
_LAST_RESORT = "cp1252"
_COPY_BYTES = 1024 * 1024
_TAR_NAME = re.compile(r"\.(?:tar(?:\.[a-z0-9]+)?|tgz|tbz2?|txz|tzst)$", re.IGNORECASE)


class _ChunkReader:
    """Reader over an iterator of chunks."""

    def __init__(self, chunks: Iterable[bytes | memoryview]) -> None:
        self._chunks = iter(chunks)
        self._chunk = memoryview(b"")

    def take(self, count: int) -> Iterator[memoryview]:
        """The next `count` bytes in chunks, or fewer at the end."""
        while count:
            if not self._chunk:
                chunk = next(self._chunks, None)
                if chunk is None:
                    return
                self._chunk = memoryview(chunk)
            part, self._chunk = self._chunk[:count], self._chunk[count:]
            count -= len(part)
            yield part

    def read(self, count: int) -> bytes:
        """The next `count` bytes, or fewer at the end."""
        return b"".join(self.take(count))

    def skip(self, count: int) -> None:
        """Skip `count` bytes.

        Raises:
            InvalidInput: the stream ends before.
        """
        for part in self.take(count):
            count -= len(part)
        if count:
            raise errors.damaged("it is truncated")

    def drain(self) -> None:
        """Read to the end, so that damage behind the last member is detected too."""
        self._chunk = memoryview(b"")
        for _ in self._chunks:
            pass


@dataclass(frozen=True, slots=True)
class _TarMember:
    """A TAR member, whose content is the next `size_bytes` of the stream."""

    name: bytes
    kind: bytes
    size_bytes: int
    link: bytes
    mtime: int | None
    sparse: SparseMap | None

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder, by its kind or, in the oldest format, by its name."""
        return self.kind in _FOLDERS or (self.kind in _FILES and self.name.endswith(b"/"))


def extract_tar(request: ExtractRequest, chunks: Iterable[bytes]) -> None:
    """Extract the wanted files of a TAR, given as uncompressed chunks.

    As with GNU tar, a later member replaces an earlier one of the same name, and a hard link becomes a copy of the
    member that it names.

    Raises:
        InvalidInput: the archive is damaged, hostile or over a limit.
    """
    content = _ChunkReader(chunks)
    extraction = _TarExtraction(request, content)
    for member in _members(content):
        extraction.extract(member)
    content.drain()


def looks_like_tar(head: bytes, name: str) -> bool:
    """Whether a content that begins so is a TAR: the checksum of its first header matches.

    A TAR without members is all zeros, as other files may be; then the name decides.
    """
    if len(head) < BLOCK_BYTES:
        return False
    block = bytes(head[:BLOCK_BYTES])
    if not any(block):
        return _TAR_NAME.search(name) is not None
    try:
        return parse_header(block) is not None
    except InvalidInput:
        return True  # a damaged one


def _members(content: _ChunkReader) -> Iterator[_TarMember]:
    """The members in order; the content of each must be consumed before the next is requested."""
    global_extended, local = Extended(), None
    while (header := _next_header(content)) is not None:
        if header.kind not in _EXTENDED:
            yield _with_extended(header, local or global_extended, content)
            local = None
            continue
        data = _read_extended_data(content, header)
        if header.kind == _GLOBAL:
            read_extended(data, global_extended)
            continue
        local = local or global_extended.copied()
        if header.kind == _LONG_NAME:
            local.path = data.partition(b"\0")[0]
        elif header.kind == _LONG_LINK:
            local.link = data.partition(b"\0")[0]
        else:
            read_extended(data, local)


def _next_header(content: _ChunkReader) -> Header | None:
    """The next header; None at the end marker, without which the archive may have been truncated."""
    block = content.read(BLOCK_BYTES)
    if len(block) == BLOCK_BYTES and not any(block):
        return None
    header = parse_header(block)
    if header is None:
        raise errors.damaged("it is truncated, or a header is invalid")
    return header


def _read_extended_data(content: _ChunkReader, header: Header) -> bytes:
    if header.size_bytes > MAX_EXTENDED_BYTES:
        raise errors.damaged(f"an extended header has {header.size_bytes} bytes")
    data = content.read(header.size_bytes)
    content.skip(_padding(header.size_bytes))
    return data


def _with_extended(header: Header, extended: Extended, content: _ChunkReader) -> _TarMember:
    size_bytes = header.size_bytes if extended.size_bytes is None else extended.size_bytes
    sparse = read_sparse_map(header, extended, content.read)
    if sparse is not None:
        # The length in the headers is that of the stored content, whatever the order of the records.
        size_bytes -= sparse.map_bytes
        if size_bytes != sparse.content_bytes:
            raise errors.damaged("the map of a sparse file and its content contradict each other")
    name = extended.sparse.get(b"name") or extended.path
    return _TarMember(
        header.name if name is None else name,
        header.kind,
        0 if header.kind in _WITHOUT_CONTENT else size_bytes,
        header.link if extended.link is None else extended.link,
        header.mtime if extended.mtime is None else extended.mtime,
        sparse,
    )


class _TarExtraction:
    """Extraction of the members of one TAR, one after the other."""

    def __init__(self, request: ExtractRequest, content: _ChunkReader) -> None:
        self._request = request
        self._content = content
        self._wanted: dict[str, bool] = {}

    def extract(self, member: _TarMember) -> None:
        """Extract the member, or skip its content."""
        if member.kind == _CONTINUED:
            raise errors.multi_volume("TAR")
        if member.kind == _LABEL:
            self._skip(member)
            return
        name = self._decoded(member.name)
        if member.is_folder:
            self._add_folder(member, name)
        elif member.kind in _FILES or member.kind == _HARD_LINK:
            self._add_file(member, name)
        else:
            raise errors.special_file(name, _KINDS.get(member.kind, "special file"))

    def _add_folder(self, member: _TarMember, name: str) -> None:
        if member.kind in _FILES and member.size_bytes:
            raise errors.damaged("a folder has content")
        self._request.member_filter.add_folder(name, member.mtime)
        if member.kind != b"5":
            self._skip(member)

    def _add_file(self, member: _TarMember, name: str) -> None:
        path = self._request.member_filter.add_file(name, may_repeat=True)
        if path is None or not self._is_wanted(path):
            self._skip(member)
        elif member.kind == _HARD_LINK:
            self._copy_linked(member, name, path)
        else:
            self._write(member, path)

    def _is_wanted(self, path: str) -> bool:
        if path not in self._wanted:
            self._wanted[path] = self._request.is_wanted(path)
        return self._wanted[path]

    def _write(self, member: _TarMember, path: str) -> None:
        """Write a file; the holes of a sparse one count as content."""
        request, sparse = self._request, member.sparse
        size_bytes = member.size_bytes if sparse is None else sparse.size_bytes
        holes_bytes = size_bytes - member.size_bytes
        request.expansion.add(holes_bytes)
        request.extract_dir.budget.consume(holes_bytes)
        file = request.extract_dir.new_path()
        with new_file(file) as target:
            for offset, length in ((0, size_bytes),) if sparse is None else sparse.regions:
                os.lseek(target, offset, os.SEEK_SET)
                self._copy_content(target, length)
            os.ftruncate(target, size_bytes)
        request.extract_dir.add(path, file, size_bytes, member.mtime)
        self._content.skip(_padding(member.size_bytes))

    def _copy_content(self, target: int, count: int) -> None:
        for chunk in self._content.take(count):
            self._request.extract_dir.write(target, chunk)
            count -= len(chunk)
        if count:
            raise errors.damaged("it is truncated")

    def _copy_linked(self, member: _TarMember, name: str, path: str) -> None:
        """Copy the extracted file that a hard link names; the copy counts towards all limits."""
        request = self._request
        linked = self._linked_file(member, name)
        if linked.path == path:
            return
        file = request.extract_dir.new_path()
        request.expansion.add(linked.size_bytes)
        with linked.file.open("rb", buffering=0) as source, new_file(file) as target:
            while chunk := source.read(_COPY_BYTES):
                request.extract_dir.write(target, chunk)
        request.extract_dir.add(path, file, linked.size_bytes, member.mtime)

    def _linked_file(self, member: _TarMember, name: str) -> ExtractedFile:
        linked_name = self._decoded(member.link)
        linked_path = self._request.member_filter.path_of(linked_name)
        linked = None if linked_path is None else self._request.extract_dir.find(linked_path)
        if linked is None:
            is_skipped = linked_path is not None and linked_path in self._wanted
            raise errors.hard_link(name, linked_name, is_skipped=is_skipped)
        return linked

    def _skip(self, member: _TarMember) -> None:
        self._content.skip(member.size_bytes + _padding(member.size_bytes))

    def _decoded(self, raw: bytes) -> str:
        return self._request.names.decode([raw], last_resort=_LAST_RESORT)[0]


def _padding(size_bytes: int) -> int:
    """Number of bytes that fill up the last block."""
    return -size_bytes % BLOCK_BYTES
