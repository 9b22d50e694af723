"""The headers of a TAR (POSIX.1-2017 `pax`, "ustar Interchange Format"; GNU tar's manual, "Basic Tar Format").

Read here and not by `tarfile`: on hostile headers Python 3.11's recurses, fails in ways of its own, and searches
extended ones with a regular expression in a time that grows with the square of their length (CVE-2024-6232).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from aerotask.archives import errors

BLOCK_BYTES = 512
MAX_EXTENDED_BYTES = 1024 * 1024
"""The longest extended header; names have 1,024 bytes at most, so more than this is no honest one."""
_LAYOUT = struct.Struct("100s24x12s12x8sc100s6s82x155s12x")
_UNSIGNED, _SIGNED = struct.Struct("512B"), struct.Struct("512b")
_CHECKSUM = slice(148, 156)
_OCTAL = re.compile(rb"[ ]*([0-7]*)[ \0]*")
_LENGTH = re.compile(rb"[0-9]{1,9}")
_DECIMAL = re.compile(rb"[0-9]{1,18}")
_SPARSE = b"GNU.sparse."


@dataclass(frozen=True, slots=True)
class Header:
    """One block: what is said of a member, or of what follows about the next one."""

    name: bytes
    kind: bytes
    size_bytes: int


@dataclass(slots=True)
class Extended:
    """What extended headers have said that matters here."""

    path: bytes | None = None
    size_bytes: int | None = None
    is_sparse: bool = False


def parse_header(block: bytes) -> Header | None:
    """The header that the block holds; None if it is none, or its checksum is wrong.

    Raises:
        InvalidInput: it is one, and makes no sense.
    """
    if len(block) != BLOCK_BYTES:
        return None
    name, size, told, kind, _link, magic, prefix = _LAYOUT.unpack(block)
    if not _has_checksum(block, told):
        return None
    if magic == b"ustar\0" and prefix[0]:
        name = _until_nul(prefix) + b"/" + _until_nul(name)
    size_bytes = _number(size)
    if size_bytes is None:
        raise errors.damaged("the length of a member makes no sense")
    return Header(_until_nul(name), b"0" if kind == b"\0" else kind, size_bytes)


def read_extended(data: bytes, into: Extended) -> None:
    """Note what the records of a `pax` header say.

    Raises:
        InvalidInput: they make no sense.
    """
    for key, value in _records(data):
        if key == b"path":
            into.path = value or None
        elif key == b"size":
            if value and not _DECIMAL.fullmatch(value):
                raise errors.damaged("the length of a member makes no sense")
            into.size_bytes = int(value) if value else None
        elif key.startswith(_SPARSE):
            into.is_sparse = True


def decoded(name: bytes) -> str:
    """A name as UTF-8 if it happens to be so, else in the code page of western Europe."""
    for encoding in ("utf-8", "cp1252"):
        try:
            return name.decode(encoding)
        except UnicodeDecodeError:
            continue
    return name.decode("latin-1")


def _records(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at < len(data) and data[at]:  # some pad with zeros
        space = data.find(b" ", at, at + 10)
        if space < 0 or not _LENGTH.fullmatch(data, at, space):
            raise errors.damaged("an extended header makes no sense")
        end = at + int(data[at:space])
        if not space < end <= len(data) or data[end - 1 : end] != b"\n":
            raise errors.damaged("an extended header makes no sense")
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if not equals:
            raise errors.damaged("an extended header makes no sense")
        yield key, value
        at = end


def _has_checksum(block: bytes, told: bytes) -> bool:
    wanted = _number(told)
    blank = block[: _CHECKSUM.start] + b" " * 8 + block[_CHECKSUM.stop :]
    # Some old programs took the bytes for signed ones.
    return wanted is not None and wanted in {sum(_UNSIGNED.unpack(blank)), sum(_SIGNED.unpack(blank))}


def _number(field: bytes) -> int | None:
    """Octal digits, or with the first bit set a binary number (GNU, star); None if it is neither."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    found = _OCTAL.fullmatch(field)
    return None if found is None else int(found[1] or b"0", 8)


def _until_nul(field: bytes) -> bytes:
    return field.partition(b"\0")[0]
