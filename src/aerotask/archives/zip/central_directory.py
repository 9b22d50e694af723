"""ZIP central directory: parsed, and checked against the end records and local headers of the file."""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from aerotask.archives import errors
from aerotask.archives.name_encoding import NameDecoder
from aerotask.archives.zip.directory_end import CENTRAL_BYTES, find_directory, read_exactly
from aerotask.archives.zip.extra_fields import modified_at, parse_extras, unicode_path, widened
from aerotask.archives.zip.methods import METHODS
from aerotask.archives.zip.records import UTF8_NAME

MAX_DIRECTORY_BYTES = 128 * 1024 * 1024
_ENCRYPTED = 0x2041
"""Flag bits 0, 6 and 13: encrypted content, strong encryption, encrypted directory."""
_HAS_DESCRIPTOR = 0x0008
_UNIX_SYSTEMS = frozenset({3, 19})
_WINDOWS_SYSTEMS = frozenset({0, 6, 10, 14})
"""MS-DOS, OS/2, NTFS and VFAT, whose programs may separate folders by backslashes."""
_LOCAL_BYTES = 30
_LAST_RESORT = "cp437"
"""The code page of DOS, which the format names for names that aren't in UTF-8."""
_KINDS = {
    stat.S_IFLNK: "symbolic link",
    stat.S_IFBLK: "device",
    stat.S_IFCHR: "device",
    stat.S_IFIFO: "pipe",
    stat.S_IFSOCK: "socket",
}


@dataclass(frozen=True, slots=True)
class ZipMember:
    """File or folder in a ZIP file, by its central directory."""

    name: str
    raw_name: bytes
    flags: int
    method: int
    crc32: int
    stored_bytes: int
    size_bytes: int
    header_at: int
    mtime: int | None
    """Unix seconds."""

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder, by the trailing slash of its name."""
        return self.name.endswith("/")


@dataclass(frozen=True, slots=True)
class ZipDirectory:
    """Members in directory order, and the offset of the directory in the file."""

    at: int
    members: tuple[ZipMember, ...]


def read_directory(
    descriptor: int, file_bytes: int, *, max_members: int, decoder: NameDecoder
) -> ZipDirectory:
    """Central directory of the ZIP file, with the names that `decoder` reads.

    Raises:
        InvalidInput: it is damaged, encrypted, contains links or devices, or more than `max_members` members.
    """
    end = find_directory(descriptor, file_bytes)
    if end.count > max_members:
        raise errors.over_limit(f"it has more than {max_members} members")
    if end.size_bytes > MAX_DIRECTORY_BYTES:
        raise errors.over_limit(f"its directory is larger than {MAX_DIRECTORY_BYTES} bytes")
    headers = list(_headers(read_exactly(descriptor, end.at, end.size_bytes)))
    if len(headers) != end.count:
        raise errors.damaged(f"its directory has {len(headers)} members where {end.count} are announced")
    members = [_member(header, name, end.prefix_bytes) for header, name in _named(headers, decoder)]
    if any(member.header_at + _LOCAL_BYTES + member.stored_bytes > end.at for member in members):
        raise errors.damaged("a member is outside the file")
    return ZipDirectory(end.at, tuple(members))


def locate_contents(descriptor: int, directory: ZipDirectory) -> Iterator[tuple[ZipMember, int]]:
    """Each member with the offset of its content, in file order.

    Raises:
        InvalidInput: a local header contradicts the directory, or two members overlap.
    """
    ordered = sorted(directory.members, key=lambda member: member.header_at)
    starts = [*(member.header_at for member in ordered), directory.at]
    for member, (begin, next_begin) in zip(ordered, pairwise(starts), strict=True):
        content_at = begin + _header_bytes(descriptor, member)
        if content_at + member.stored_bytes > next_begin:
            raise errors.damaged(f"members overlap at byte {next_begin}")
        yield member, content_at


@dataclass(frozen=True, slots=True)
class _CentralHeader:
    """Header of a member in the directory: its fields from the version on, its name as it is stored, and its extras."""

    fields: tuple[int, ...]
    raw_name: bytes
    extras: Mapping[int, bytes]


def _headers(data: bytes) -> Iterator[_CentralHeader]:
    at = 0
    while at < len(data):
        if at + CENTRAL_BYTES > len(data) or data[at : at + 4] != b"PK\1\2":
            raise errors.damaged("its directory is invalid")
        fields = struct.unpack("<6H3L5H2L", data[at + 4 : at + CENTRAL_BYTES])
        name_bytes, extra_bytes, comment_bytes = fields[9:12]
        name_at = at + CENTRAL_BYTES
        extra_at = name_at + name_bytes
        at = extra_at + extra_bytes + comment_bytes
        if at > len(data):
            raise errors.damaged("its directory is truncated")
        extras = parse_extras(data[extra_at : extra_at + extra_bytes])
        yield _CentralHeader(fields, data[name_at:extra_at], extras)


def _named(headers: list[_CentralHeader], decoder: NameDecoder) -> Iterator[tuple[_CentralHeader, str]]:
    """Each header with its name; those that aren't marked as UTF-8 are decoded together."""
    marked = [_marked_name(header) for header in headers]
    unmarked = [header.raw_name for header, name in zip(headers, marked, strict=True) if name is None]
    decoded = iter(decoder.decode(unmarked, last_resort=_LAST_RESORT))
    for header, name in zip(headers, marked, strict=True):
        yield header, next(decoded) if name is None else name


def _marked_name(header: _CentralHeader) -> str | None:
    """The name if it is marked as UTF-8; a mark on other bytes counts for nothing."""
    flags = header.fields[2]
    raw = unicode_path(header.extras, header.raw_name)
    if raw is None and flags & UTF8_NAME:
        raw = header.raw_name
    try:
        return None if raw is None else raw.decode()
    except UnicodeDecodeError:
        return None


def _member(header: _CentralHeader, name: str, prefix_bytes: int) -> ZipMember:
    made_by, _needs, flags, method, time, date, crc32, stored_bytes, size_bytes = header.fields[:9]
    attributes, header_at = header.fields[14], header.fields[15]
    system = made_by >> 8
    size_bytes, stored_bytes, header_at = widened(header.extras, (size_bytes, stored_bytes, header_at))
    if flags & _ENCRYPTED:
        raise errors.encrypted()
    if system in _UNIX_SYSTEMS:
        kind = stat.S_IFMT(attributes >> 16)
        if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
            raise errors.special_file(name, _KINDS.get(kind, "special file"))
    if method not in METHODS:
        raise errors.unsupported(f"The archive uses ZIP compression method {method}.")
    member = ZipMember(
        name.replace("\\", "/") if system in _WINDOWS_SYSTEMS else name,
        header.raw_name,
        flags,
        method,
        crc32,
        stored_bytes,
        size_bytes,
        header_at + prefix_bytes,
        modified_at(header.extras, time, date),
    )
    if member.is_folder and size_bytes:
        raise errors.damaged("a folder has content")
    return member


def _header_bytes(descriptor: int, member: ZipMember) -> int:
    """Length of the local header, which must agree with the directory."""
    raw = os.pread(descriptor, _LOCAL_BYTES + len(member.raw_name), member.header_at)
    if len(raw) < _LOCAL_BYTES or raw[:4] != b"PK\3\4":
        raise errors.damaged(f"there is no member at byte {member.header_at}")
    fields: tuple[int, ...] = struct.unpack("<5H3L2H", raw[4:_LOCAL_BYTES])
    _needs, flags, method, _time, _date, crc32, stored, size, name_bytes, extra_bytes = fields
    if flags & _ENCRYPTED:
        raise errors.encrypted()
    extras = parse_extras(os.pread(descriptor, extra_bytes, member.header_at + _LOCAL_BYTES + name_bytes))
    size, stored, _ = widened(extras, (size, stored, 0))
    local = (crc32, stored, size)
    central = (member.crc32, member.stored_bytes, member.size_bytes)
    # A streamed member has zeros here, and the values in a descriptor after its content.
    streamed = flags & _HAS_DESCRIPTOR and all(
        value in {0, expected} for value, expected in zip(local, central, strict=True)
    )
    if raw[_LOCAL_BYTES:] != member.raw_name or method != member.method or not (local == central or streamed):
        raise errors.damaged("a member and the directory contradict each other")
    return _LOCAL_BYTES + name_bytes + extra_bytes
