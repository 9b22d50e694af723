"""TAR headers (POSIX.1-2017 `pax`, "ustar Interchange Format"; GNU tar's manual, "Basic Tar Format").

ADR 8 says why `tarfile` doesn't parse them: on hostile headers Python 3.11's recurses, raises arbitrary exceptions, and
takes quadratic time and unbounded memory for extended headers (CVE-2024-6232).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from aerotask.archives import errors

BLOCK_BYTES = 512
MAX_EXTENDED_BYTES = 1024 * 1024
"""The longest extended header: names have at most 1,024 bytes, so a longer one is hostile."""
_LAYOUT = struct.Struct("100s24x12s12s8sc100s6s82x155s12x")
_UNSIGNED, _SIGNED = struct.Struct("512B"), struct.Struct("512b")
_CHECKSUM = slice(148, 156)
_OCTAL = re.compile(rb"[ ]*([0-7]*)[ \0]*")
_LENGTH = re.compile(rb"[0-9]{1,9}")
_DECIMAL = re.compile(rb"[0-9]{1,18}")
_TIME = re.compile(rb"(-?[0-9]{1,18})(?:\.[0-9]*)?")
SPARSE = b"GNU.sparse."
_SPARSE_PAIR = (SPARSE + b"offset", SPARSE + b"numbytes")


@dataclass(frozen=True, slots=True)
class Header:
    """Header block of a member, or of an extended header for the next member."""

    name: bytes
    kind: bytes
    size_bytes: int
    link: bytes
    """The name of the member that a hard link names."""
    mtime: int | None
    """Unix seconds."""
    block: bytes


@dataclass(slots=True)
class Extended:
    """Relevant records of extended headers."""

    path: bytes | None = None
    size_bytes: int | None = None
    link: bytes | None = None
    mtime: int | None = None
    sparse: dict[bytes, bytes] = field(default_factory=dict)
    """Values of GNU's records for sparse files by their keys without the prefix."""
    sparse_pairs: list[bytes] = field(default_factory=list)
    """Values of the records of the form 0.0, which has one for each number of its map."""

    def copied(self) -> Extended:
        """A copy for the next member."""
        return replace(self, sparse=dict(self.sparse), sparse_pairs=list(self.sparse_pairs))


def parse_header(block: bytes) -> Header | None:
    """Header in the block; None if it is none or its checksum is wrong.

    Raises:
        InvalidInput: the checksum matches, but a field is invalid.
    """
    if len(block) != BLOCK_BYTES:
        return None
    name, size, mtime, checksum, kind, link, magic, prefix = _LAYOUT.unpack(block)
    if not _checksum_matches(block, checksum):
        return None
    if magic == b"ustar\0" and prefix[0]:
        name = _until_nul(prefix) + b"/" + _until_nul(name)
    size_bytes = parse_number(size)
    if size_bytes is None:
        raise errors.damaged("the length of a member is invalid")
    return Header(
        _until_nul(name),
        b"0" if kind == b"\0" else kind,
        size_bytes,
        _until_nul(link),
        parse_number(mtime),
        block,
    )


def read_extended(data: bytes, into: Extended) -> None:
    """Read the records of a `pax` header into `into`.

    Raises:
        InvalidInput: a record is invalid.
    """
    for key, value in _records(data):
        if key == b"path":
            into.path = value or None
        elif key == b"size":
            if value and not _DECIMAL.fullmatch(value):
                raise errors.damaged("the length of a member is invalid")
            into.size_bytes = int(value) if value else None
        elif key == b"linkpath":
            into.link = value or None
        elif key == b"mtime":
            time = _TIME.fullmatch(value)
            into.mtime = int(time[1]) - (value[:1] == b"-" and b"." in value) if time else None
        elif key in _SPARSE_PAIR:
            into.sparse_pairs.append(value)
        elif key.startswith(SPARSE):
            into.sparse[key.removeprefix(SPARSE)] = value


def parse_number(field: bytes) -> int | None:
    """Octal digits, or a binary number if the first bit is set (GNU, star); None if it is neither."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    match = _OCTAL.fullmatch(field)
    return None if match is None else int(match[1] or b"0", 8)


def _records(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    start = 0
    while start < len(data) and data[start]:  # some writers pad with zeros
        space = data.find(b" ", start, start + 10)
        if space < 0 or not _LENGTH.fullmatch(data, start, space):
            raise errors.damaged("an extended header is invalid")
        end = start + int(data[start:space])
        if not space < end <= len(data) or data[end - 1 : end] != b"\n":
            raise errors.damaged("an extended header is invalid")
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if not equals:
            raise errors.damaged("an extended header is invalid")
        yield key, value
        start = end


def _checksum_matches(block: bytes, declared: bytes) -> bool:
    expected = parse_number(declared)
    blank = block[: _CHECKSUM.start] + b" " * 8 + block[_CHECKSUM.stop :]
    # Some old programs summed the bytes as signed.
    return expected is not None and expected in {sum(_UNSIGNED.unpack(blank)), sum(_SIGNED.unpack(blank))}


def _until_nul(field: bytes) -> bytes:
    return field.partition(b"\0")[0]
