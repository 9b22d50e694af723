"""Extracts a TAR from a stream that is unpacked a little at a time, member after member."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from copy import copy
from dataclasses import dataclass

from aerotask.archives import errors
from aerotask.archives.extract_dir import ExtractDir, new_file
from aerotask.archives.member_filter import MemberFilter
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


class StreamReader:
    """Pieces of bytes as something to read from."""

    def __init__(self, pieces: Iterable[bytes | memoryview]) -> None:
        self._pieces = iter(pieces)
        self._piece = memoryview(b"")

    def take(self, count: int) -> Iterator[memoryview]:
        """The next `count` bytes as they come, or fewer at the end."""
        while count:
            if not self._piece:
                piece = next(self._pieces, None)
                if piece is None:
                    return
                self._piece = memoryview(piece)
            part, self._piece = self._piece[:count], self._piece[count:]
            count -= len(part)
            yield part

    def read(self, count: int) -> bytes:
        """The next `count` bytes, or fewer at the end."""
        return b"".join(self.take(count))

    def drain(self) -> None:
        """Read to the end, so that a fault behind the last member is found too."""
        self._piece = memoryview(b"")
        for _ in self._pieces:
            pass


@dataclass(frozen=True, slots=True)
class _Member:
    """What a TAR holds, its content the next `size_bytes` of the stream."""

    name: str
    kind: bytes
    size_bytes: int
    is_sparse: bool

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder: its kind says so or, in the oldest form, its name."""
        return self.kind == _FOLDER or (self.kind in _FILES and self.name.endswith("/"))


def extract_tar(
    content: StreamReader,
    *,
    intake: MemberFilter,
    outlet: ExtractDir,
    is_wanted: Callable[[str], bool],
) -> None:
    """Extract the wanted files of a TAR into the outlet.

    Raises:
        InvalidInput: the archive is damaged, hostile or over a limit.
    """
    for member in _members(content):
        _extract(content, member, intake, outlet, is_wanted)
    content.drain()


def looks_like_tar(head: bytes, name: str) -> bool:
    """Whether a content that begins so is a TAR: its first header's checksum is right.

    One without members is nothing but zeros, as other files may be too: then the name decides.
    """
    if len(head) < BLOCK_BYTES:
        return False
    block = bytes(head[:BLOCK_BYTES])
    if not any(block):
        return _TAR_NAME.search(name) is not None
    try:
        return parse_header(block) is not None
    except InvalidInput:
        return True  # and a damaged one


def _members(content: StreamReader) -> Iterator[_Member]:
    """The members in their order; whoever asks for the next has taken the content of the one before."""
    everywhere, here = Extended(), None
    while (header := _next_header(content)) is not None:
        if header.kind not in _EXTENDED:
            yield _described(header, here or everywhere)
            here = None
            continue
        data = _extended(content, header)
        if header.kind == _GLOBAL:
            read_extended(data, everywhere)
            continue
        here = here or copy(everywhere)
        if header.kind == _LONG_NAME:
            here.path = data.partition(b"\0")[0]
        elif header.kind in _LOCAL:
            read_extended(data, here)


def _next_header(content: StreamReader) -> Header | None:
    """The next header; None at the mark of the end, which must be there: else there may have been more."""
    block = content.read(BLOCK_BYTES)
    if len(block) == BLOCK_BYTES and not any(block):
        return None
    header = parse_header(block)
    if header is None:
        raise errors.damaged("it is cut off, or a header makes no sense")
    return header


def _extended(content: StreamReader, header: Header) -> bytes:
    if header.size_bytes > MAX_EXTENDED_BYTES:
        raise errors.damaged(f"a header of {header.size_bytes} bytes")
    data = content.read(header.size_bytes)
    _skip(content, _padding(header.size_bytes))
    return data


def _described(header: Header, extended: Extended) -> _Member:
    return _Member(
        decoded(header.name if extended.path is None else extended.path),
        header.kind,
        header.size_bytes if extended.size_bytes is None else extended.size_bytes,
        extended.is_sparse or header.kind == _SPARSE,
    )


def _extract(
    content: StreamReader,
    member: _Member,
    intake: MemberFilter,
    outlet: ExtractDir,
    is_wanted: Callable[[str], bool],
) -> None:
    if member.is_folder:
        if member.kind != _FOLDER and member.size_bytes:
            raise errors.damaged("a folder has content")
        intake.folder(member.name)
        return
    if member.is_sparse or member.kind not in _FILES:
        kind = _KINDS[_SPARSE] if member.is_sparse else _KINDS.get(member.kind, "special file")
        raise errors.special(member.name, kind)
    path = intake.file(member.name)
    if path is None or not is_wanted(path):
        _skip(content, member.size_bytes)
    else:
        file = outlet.reserve()
        with new_file(file) as target:
            left = member.size_bytes
            for piece in content.take(left):
                outlet.write(target, piece)
                left -= len(piece)
        if left:
            raise errors.damaged("it is cut off")
        outlet.add(path, file, member.size_bytes)
    _skip(content, _padding(member.size_bytes))


def _skip(content: StreamReader, count: int) -> None:
    for piece in content.take(count):
        count -= len(piece)
    if count:
        raise errors.damaged("it is cut off")


def _padding(size_bytes: int) -> int:
    """How many bytes fill up the last block."""
    return -size_bytes % BLOCK_BYTES
