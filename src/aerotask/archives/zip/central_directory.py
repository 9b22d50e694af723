"""ZIP central directory: parsed, and checked against the end records and local headers of the file."""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from isal import isal_zlib

from aerotask.archives import errors
from aerotask.archives.zip.records import STORED, UTF8_NAME

DEFLATE, BZIP2, ZSTD = 8, 12, 93
METHODS = frozenset({STORED, DEFLATE, BZIP2, ZSTD})
MAX_DIRECTORY_BYTES = 128 * 1024 * 1024
_ENCRYPTED = 0x2041
"""Flag bits 0, 6 and 13: encrypted content, strong encryption, encrypted directory."""
_HAS_DESCRIPTOR = 0x0008
_UNIX_SYSTEMS = frozenset({3, 19})
_END_BYTES, _LOCATOR_BYTES, _END64_BYTES = 22, 20, 56
_LOCAL_BYTES, _CENTRAL_BYTES = 30, 46
_MAX_COMMENT = 0xFFFF
_WIDE_2, _WIDE_4 = 0xFFFF, 0xFFFFFFFF
_TOO_LARGE = (_WIDE_2, _WIDE_2, _WIDE_2, _WIDE_2, _WIDE_4, _WIDE_4)
"""Values in the end record whose real value is in the ZIP64 end record."""
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

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder, by the trailing slash of its name."""
        return self.raw_name.endswith(b"/")


@dataclass(frozen=True, slots=True)
class _DirectoryEnd:
    """Offset, size and member count of the directory, by the end record."""

    at: int
    size_bytes: int
    count: int


@dataclass(frozen=True, slots=True)
class ZipDirectory:
    """Members in directory order, and the offset of the directory in the file."""

    at: int
    members: tuple[ZipMember, ...]


def read_directory(descriptor: int, file_bytes: int, *, max_members: int) -> ZipDirectory:
    """Central directory of the ZIP file.

    Raises:
        InvalidInput: it is damaged, encrypted, contains links or devices, or more than `max_members` members.
    """
    end = _find_directory(descriptor, file_bytes)
    if end.count > max_members:
        raise errors.over_limit(f"it has more than {max_members} members")
    if end.size_bytes > MAX_DIRECTORY_BYTES:
        raise errors.over_limit(f"its directory is larger than {MAX_DIRECTORY_BYTES} bytes")
    data = _read(descriptor, end.at, end.size_bytes)
    members = tuple(_members(data, end.at))
    if len(members) != end.count:
        raise errors.damaged(f"its directory has {len(members)} members where {end.count} are announced")
    return ZipDirectory(end.at, members)


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


def _find_directory(descriptor: int, file_bytes: int) -> _DirectoryEnd:
    tail_bytes = min(file_bytes, _END_BYTES + _MAX_COMMENT)
    tail_at = file_bytes - tail_bytes
    tail = _read(descriptor, tail_at, tail_bytes)
    begin = tail.rfind(b"PK\5\6")
    # The end record must end exactly at the end of the file: otherwise a comment could contain a fake one.
    while begin >= 0 and begin + _END_BYTES + int.from_bytes(tail[begin + 20 : begin + 22], "little") != len(
        tail
    ):
        begin = tail.rfind(b"PK\5\6", 0, begin)
    if begin < 0:
        raise errors.damaged("its end record is missing; the upload may be incomplete")
    disk, first_disk, disk_count, count, size_bytes, at = struct.unpack("<4H2L", tail[begin + 4 : begin + 20])
    end_at = tail_at + begin
    zip64_at = _find_zip64_end(descriptor, end_at)
    if zip64_at is not None:
        fields = (disk, first_disk, disk_count, count, size_bytes, at)
        return _zip64_directory(descriptor, zip64_at, end_fields=fields)
    if disk or first_disk or disk_count != count:
        raise errors.unsupported("Multi-part archives are not supported.")
    if at == _WIDE_4:
        # Info-ZIP's `zip -fz` into a pipe marks the offset as too large but writes no ZIP64 end record.
        at = end_at - size_bytes
    return _checked_directory(_DirectoryEnd(at, size_bytes, count), end_at)


def _find_zip64_end(descriptor: int, end_at: int) -> int | None:
    """Offset of the ZIP64 end record; None without a locator before the end record."""
    if end_at < _LOCATOR_BYTES + _END64_BYTES:
        return None
    signature, disk, zip64_at, disks = struct.unpack(
        "<4sLQL", _read(descriptor, end_at - _LOCATOR_BYTES, _LOCATOR_BYTES)
    )
    if signature != b"PK\6\7":
        return None
    if disk or disks > 1:
        raise errors.unsupported("Multi-part archives are not supported.")
    if zip64_at > end_at - _LOCATOR_BYTES - _END64_BYTES:
        raise errors.damaged("its end record points outside the file")
    return int(zip64_at)


def _zip64_directory(descriptor: int, zip64_at: int, *, end_fields: tuple[int, ...]) -> _DirectoryEnd:
    """The directory by the ZIP64 end record, which must not contradict the fields of the end record."""
    fields: tuple[int, ...]
    record = struct.unpack("<4sQ2H2L4Q", _read(descriptor, zip64_at, _END64_BYTES))
    signature, fields = record[0], record[4:]
    disk, first_disk, disk_count, count, size_bytes, at = fields
    if signature != b"PK\6\6" or disk or first_disk or disk_count != count:
        raise errors.damaged("its ZIP64 end record is invalid")
    for end_value, zip64_value, too_large in zip(end_fields, fields, _TOO_LARGE, strict=True):
        if end_value not in {zip64_value, too_large}:
            raise errors.damaged("its two end records contradict each other")
    return _checked_directory(_DirectoryEnd(at, size_bytes, count), zip64_at)


def _checked_directory(directory: _DirectoryEnd, end_at: int) -> _DirectoryEnd:
    if directory.at + directory.size_bytes != end_at:
        raise errors.damaged("its directory isn't where its end record says")
    if directory.count * _CENTRAL_BYTES > directory.size_bytes:
        raise errors.damaged("its directory is too short for its members")
    return directory


def _members(data: bytes, directory_at: int) -> Iterator[ZipMember]:
    at = 0
    while at < len(data):
        if at + _CENTRAL_BYTES > len(data) or data[at : at + 4] != b"PK\1\2":
            raise errors.damaged("its directory is invalid")
        fields = struct.unpack("<6H3L5H2L", data[at + 4 : at + _CENTRAL_BYTES])
        name_bytes, extra_bytes, comment_bytes = fields[9:12]
        name_at = at + _CENTRAL_BYTES
        extra_at = name_at + name_bytes
        at = extra_at + extra_bytes + comment_bytes
        if at > len(data):
            raise errors.damaged("its directory is truncated")
        member = _member(fields, data[name_at:extra_at], data[extra_at : extra_at + extra_bytes])
        if member.header_at + _LOCAL_BYTES + name_bytes + member.stored_bytes > directory_at:
            raise errors.damaged("a member is outside the file")
        yield member


def _member(fields: tuple[int, ...], raw_name: bytes, extra: bytes) -> ZipMember:
    made_by, _needs, flags, method, _time, _date, crc32, stored_bytes, size_bytes = fields[:9]
    attributes, header_at = fields[14], fields[15]
    extras = _extras(extra)
    name = _name(raw_name, flags, extras)
    size_bytes, stored_bytes, header_at = _widened(extras.get(1, b""), (size_bytes, stored_bytes, header_at))
    if flags & _ENCRYPTED:
        raise errors.encrypted()
    if made_by >> 8 in _UNIX_SYSTEMS:
        kind = stat.S_IFMT(attributes >> 16)
        if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
            raise errors.special_file(name, _KINDS.get(kind, "special file"))
    if method not in METHODS:
        raise errors.unsupported(f"The archive uses ZIP compression method {method}.")
    if raw_name.endswith(b"/") and size_bytes:
        raise errors.damaged("a folder has content")
    return ZipMember(name, raw_name, flags, method, crc32, stored_bytes, size_bytes, header_at)


def _name(raw: bytes, flags: int, extras: dict[int, bytes]) -> str:
    """Name decoded as UTF-8 if it is flagged so or valid, else as code page 437 (DOS)."""
    unicode_path = extras.get(0x7075, b"")
    if len(unicode_path) > 5 and int.from_bytes(unicode_path[1:5], "little") == isal_zlib.crc32(raw):
        raw, flags = unicode_path[5:], UTF8_NAME
    try:
        return raw.decode()
    except UnicodeDecodeError:
        if flags & UTF8_NAME:
            raise errors.damaged("a name is not valid UTF-8") from None
        return raw.decode("cp437")


def _extras(extra: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack("<2H", extra[at : at + 4])
        found.setdefault(kind, extra[at + 4 : at + 4 + length])
        at += 4 + length
    return found


def _widened(wide: bytes, values: tuple[int, int, int]) -> tuple[int, int, int]:
    """The values, those marked as too large for 32 bits replaced from the ZIP64 extra field."""
    taken = 0
    result: list[int] = []
    for value in values:
        if value != _WIDE_4:
            result.append(value)
            continue
        if taken + 8 > len(wide):
            raise errors.damaged("a member's ZIP64 sizes are missing")
        result.append(int.from_bytes(wide[taken : taken + 8], "little"))
        taken += 8
    return result[0], result[1], result[2]


def _header_bytes(descriptor: int, member: ZipMember) -> int:
    """Length of the local header, which must agree with the directory."""
    raw = os.pread(descriptor, _LOCAL_BYTES + len(member.raw_name), member.header_at)
    if len(raw) < _LOCAL_BYTES or raw[:4] != b"PK\3\4":
        raise errors.damaged(f"there is no member at byte {member.header_at}")
    fields: tuple[int, ...] = struct.unpack("<5H3L2H", raw[4:_LOCAL_BYTES])
    _needs, flags, method, _time, _date, crc32, stored, size, name_bytes, extra_bytes = fields
    if flags & _ENCRYPTED:
        raise errors.encrypted()
    extras = _extras(os.pread(descriptor, extra_bytes, member.header_at + _LOCAL_BYTES + name_bytes))
    size, stored, _ = _widened(extras.get(1, b""), (size, stored, 0))
    local = (crc32, stored, size)
    central = (member.crc32, member.stored_bytes, member.size_bytes)
    # A streamed member has zeros here, and the values in a descriptor after its content.
    streamed = flags & _HAS_DESCRIPTOR and all(
        value in {0, expected} for value, expected in zip(local, central, strict=True)
    )
    if raw[_LOCAL_BYTES:] != member.raw_name or method != member.method or not (local == central or streamed):
        raise errors.damaged("a member and the directory contradict each other")
    return _LOCAL_BYTES + name_bytes + extra_bytes


def _read(descriptor: int, at: int, count: int) -> bytes:
    data = os.pread(descriptor, count, at)
    if len(data) != count:
        raise errors.damaged("it is truncated")
    return data
