"""TAR extraction from a stream of bounded chunks, one member after the other."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from copy import copy
from dataclasses import dataclass

from aerotask.archives import errors
from aerotask.archives.extract_dir import new_file
from aerotask.archives.extract_request import ExtractRequest
from aerotask.archives.tar.headers import (
    BLOCK_BYTES,
    MAX_EXTENDED_BYTES,
    Extended,
    Header,
    decoded,
    parse_header,
    read_extended,
)
from aerotask.domain.errors import InvalidInput

_LONG_NAME, _LONG_LINK, _GLOBAL = b"L", b"K", b"g"
_LOCAL = frozenset({b"x", b"X"})
_EXTENDED = frozenset({_LONG_NAME, _LONG_LINK, _GLOBAL, *_LOCAL})
_FILES, _FOLDER, _SPARSE = frozenset({b"0", b"7"}), b"5", b"S"
_KINDS = {
    b"1": "hard link",
    b"2": "symbolic link",
    b"3": "device",
    b"4": "device",
    b"6": "pipe",
    _SPARSE: "sparse file",
}
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
class _Member:
    """A TAR member, whose content is the next `size_bytes` of the stream."""

    name: str
    kind: bytes
    size_bytes: int
    is_sparse: bool

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder, by its kind or, in the oldest format, by its name."""
        return self.kind == _FOLDER or (self.kind in _FILES and self.name.endswith("/"))


def extract_tar(request: ExtractRequest, chunks: Iterable[bytes]) -> None:
    """Extract the wanted files of a TAR, given as uncompressed chunks.

    Raises:
        InvalidInput: the archive is damaged, hostile or over a limit.
    """
    content = _ChunkReader(chunks)
    for member in _members(content):
        _extract(content, member, request)
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


def _members(content: _ChunkReader) -> Iterator[_Member]:
    """The members in order; the content of each must be consumed before the next is requested."""
    global_extended, local = Extended(), None
    while (header := _next_header(content)) is not None:
        if header.kind not in _EXTENDED:
            yield _with_extended(header, local or global_extended)
            local = None
            continue
        data = _read_extended_data(content, header)
        if header.kind == _GLOBAL:
            read_extended(data, global_extended)
            continue
        local = local or copy(global_extended)
        if header.kind == _LONG_NAME:
            local.path = data.partition(b"\0")[0]
        elif header.kind in _LOCAL:
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


def _with_extended(header: Header, extended: Extended) -> _Member:
    return _Member(
        decoded(header.name if extended.path is None else extended.path),
        header.kind,
        header.size_bytes if extended.size_bytes is None else extended.size_bytes,
        extended.is_sparse or header.kind == _SPARSE,
    )


def _extract(content: _ChunkReader, member: _Member, request: ExtractRequest) -> None:
    if member.is_folder:
        if member.kind != _FOLDER and member.size_bytes:
            raise errors.damaged("a folder has content")
        request.member_filter.add_folder(member.name)
        return
    if member.is_sparse or member.kind not in _FILES:
        kind = _KINDS[_SPARSE] if member.is_sparse else _KINDS.get(member.kind, "special file")
        raise errors.special_file(member.name, kind)
    path = request.member_filter.add_file(member.name)
    if path is None or not request.is_wanted(path):
        content.skip(member.size_bytes)
    else:
        file = request.extract_dir.new_path()
        with new_file(file) as target:
            left = member.size_bytes
            for chunk in content.take(left):
                request.extract_dir.write(target, chunk)
                left -= len(chunk)
        if left:
            raise errors.damaged("it is truncated")
        request.extract_dir.add(path, file, member.size_bytes)
    content.skip(_padding(member.size_bytes))


def _padding(size_bytes: int) -> int:
    """Number of bytes that fill up the last block."""
    return -size_bytes % BLOCK_BYTES
