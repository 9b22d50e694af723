"""Reads a ZIP file's central directory and believes nothing of it that the file itself doesn't bear out."""

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
"""Bits 0, 6 and 13: the content, strongly, and the directory itself."""
_HAS_DESCRIPTOR = 0x0008
_UNIX_SYSTEMS = frozenset({3, 19})
_END_BYTES, _LOCATOR_BYTES, _END64_BYTES = 22, 20, 56
_LOCAL_BYTES, _CENTRAL_BYTES = 30, 46
_MAX_COMMENT = 0xFFFF
_WIDE_2, _WIDE_4 = 0xFFFF, 0xFFFFFFFF
_TOO_LARGE = (_WIDE_2, _WIDE_2, _WIDE_2, _WIDE_2, _WIDE_4, _WIDE_4)
"""What the fields of the end say where only the ZIP64 end record has room for them."""
_KINDS = {
    stat.S_IFLNK: "symbolic link",
    stat.S_IFBLK: "device",
    stat.S_IFCHR: "device",
    stat.S_IFIFO: "pipe",
    stat.S_IFSOCK: "socket",
}


@dataclass(frozen=True, slots=True)
class ZipMember:
    """A file or folder of a ZIP file, as its central directory tells."""

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
        """Whether it is a folder: its name says so."""
        return self.raw_name.endswith(b"/")


@dataclass(frozen=True, slots=True)
class _Directory:
    at: int
    size_bytes: int
    count: int


@dataclass(frozen=True, slots=True)
class ZipDirectory:
    """The members in the order of the directory, and where in the file the directory begins."""

    at: int
    members: tuple[ZipMember, ...]


def read_directory(descriptor: int, file_bytes: int, *, max_members: int) -> ZipDirectory:
    """The directory of the ZIP file.

    Raises:
        InvalidInput: it is damaged, encrypted, holds links or devices, or more than `max_members`.
    """
    where = _find_directory(descriptor, file_bytes)
    if where.count > max_members:
        raise errors.over_limit(f"it has more than {max_members} members")
    if where.size_bytes > MAX_DIRECTORY_BYTES:
        raise errors.over_limit(f"its directory is larger than {MAX_DIRECTORY_BYTES} bytes")
    data = _read(descriptor, where.at, where.size_bytes)
    members = tuple(_members(data, where))
    if len(members) != where.count:
        raise errors.damaged(f"its directory has {len(members)} members where {where.count} are announced")
    return ZipDirectory(where.at, members)


def locate_contents(descriptor: int, directory: ZipDirectory) -> Iterator[tuple[ZipMember, int]]:
    """Each member with the place where its content begins, by place.

    Raises:
        InvalidInput: a local header contradicts the directory, or two members share bytes of the file.
    """
    ordered = sorted(directory.members, key=lambda member: member.header_at)
    starts = [*(member.header_at for member in ordered), directory.at]
    for member, (begin, next_begin) in zip(ordered, pairwise(starts), strict=True):
        content_at = begin + _header_bytes(descriptor, member)
        if content_at + member.stored_bytes > next_begin:
            raise errors.damaged(f"members overlap at byte {next_begin}")
        yield member, content_at


def _find_directory(descriptor: int, file_bytes: int) -> _Directory:
    tail_bytes = min(file_bytes, _END_BYTES + _MAX_COMMENT)
    tail_at = file_bytes - tail_bytes
    tail = _read(descriptor, tail_at, tail_bytes)
    begin = tail.rfind(b"PK\5\6")
    # The end record is whatever ends exactly where the file does, so a comment can't fake another one.
    while begin >= 0 and begin + _END_BYTES + int.from_bytes(tail[begin + 20 : begin + 22], "little") != len(
        tail
    ):
        begin = tail.rfind(b"PK\5\6", 0, begin)
    if begin < 0:
        raise errors.damaged("its end is missing; maybe it was not uploaded whole")
    disk, first_disk, here, count, size_bytes, at = struct.unpack("<4H2L", tail[begin + 4 : begin + 20])
    end_at = tail_at + begin
    wide_at = _find_wide(descriptor, end_at)
    if wide_at is not None:
        return _wide_directory(descriptor, wide_at, told=(disk, first_disk, here, count, size_bytes, at))
    if disk or first_disk or here != count:
        raise errors.unsupported("The archive is one part of several.")
    if at == _WIDE_4:
        # Info-ZIP's `zip -fz` into a pipe: too large to be told, it says, yet there is no wider record.
        at = end_at - size_bytes
    return _placed(_Directory(at, size_bytes, count), end_at)


def _find_wide(descriptor: int, end_at: int) -> int | None:
    """Where the ZIP64 end record is, if the locator before the end says that there is one."""
    if end_at < _LOCATOR_BYTES + _END64_BYTES:
        return None
    signature, disk, wide_at, disks = struct.unpack(
        "<4sLQL", _read(descriptor, end_at - _LOCATOR_BYTES, _LOCATOR_BYTES)
    )
    if signature != b"PK\6\7":
        return None
    if disk or disks > 1:
        raise errors.unsupported("The archive is one part of several.")
    if wide_at > end_at - _LOCATOR_BYTES - _END64_BYTES:
        raise errors.damaged("its end points outside of it")
    return int(wide_at)


def _wide_directory(descriptor: int, wide_at: int, *, told: tuple[int, ...]) -> _Directory:
    """The directory as the ZIP64 end record tells, which must not contradict what the end itself has `told`."""
    fields: tuple[int, ...]
    record = struct.unpack("<4sQ2H2L4Q", _read(descriptor, wide_at, _END64_BYTES))
    signature, fields = record[0], record[4:]
    disk, first_disk, here, count, size_bytes, at = fields
    if signature != b"PK\6\6" or disk or first_disk or here != count:
        raise errors.damaged("its ZIP64 end makes no sense")
    for said, wide, too_large in zip(told, fields, _TOO_LARGE, strict=True):
        if said not in {wide, too_large}:
            raise errors.damaged("its two ends contradict each other")
    return _placed(_Directory(at, size_bytes, count), wide_at)


def _placed(directory: _Directory, end_at: int) -> _Directory:
    if directory.at + directory.size_bytes != end_at:
        raise errors.damaged("its directory isn't where its end says")
    if directory.count * _CENTRAL_BYTES > directory.size_bytes:
        raise errors.damaged("its directory is too short for its members")
    return directory


def _members(data: bytes, where: _Directory) -> Iterator[ZipMember]:
    at = 0
    while at < len(data):
        if at + _CENTRAL_BYTES > len(data) or data[at : at + 4] != b"PK\1\2":
            raise errors.damaged("its directory makes no sense")
        fields = struct.unpack("<6H3L5H2L", data[at + 4 : at + _CENTRAL_BYTES])
        name_bytes, extra_bytes, comment_bytes = fields[9:12]
        name_at = at + _CENTRAL_BYTES
        extra_at = name_at + name_bytes
        at = extra_at + extra_bytes + comment_bytes
        if at > len(data):
            raise errors.damaged("its directory is cut off")
        member = _member(fields, data[name_at:extra_at], data[extra_at : extra_at + extra_bytes])
        if member.header_at + _LOCAL_BYTES + name_bytes + member.stored_bytes > where.at:
            raise errors.damaged("a member lies outside of it")
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
            raise errors.special(name, _KINDS.get(kind, "special file"))
    if method not in METHODS:
        raise errors.unsupported(f"The archive packs members by ZIP's method {method}.")
    if raw_name.endswith(b"/") and size_bytes:
        raise errors.damaged("a folder has content")
    return ZipMember(name, raw_name, flags, method, crc32, stored_bytes, size_bytes, header_at)


def _name(raw: bytes, flags: int, extras: dict[int, bytes]) -> str:
    """The name as UTF-8 where it says or happens to be so, else in the code page of DOS."""
    unicode_path = extras.get(0x7075, b"")
    if len(unicode_path) > 5 and int.from_bytes(unicode_path[1:5], "little") == isal_zlib.crc32(raw):
        raw, flags = unicode_path[5:], UTF8_NAME
    try:
        return raw.decode()
    except UnicodeDecodeError:
        if flags & UTF8_NAME:
            raise errors.damaged("a name is no UTF-8") from None
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
    """The values with those that are marked as too large for 32 bits taken from the ZIP64 field."""
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
    """The length of the local header, which must say the same as the directory."""
    raw = os.pread(descriptor, _LOCAL_BYTES + len(member.raw_name), member.header_at)
    if len(raw) < _LOCAL_BYTES or raw[:4] != b"PK\3\4":
        raise errors.damaged(f"a member is not at byte {member.header_at}")
    fields: tuple[int, ...] = struct.unpack("<5H3L2H", raw[4:_LOCAL_BYTES])
    _needs, flags, method, _time, _date, crc32, stored, size, name_bytes, extra_bytes = fields
    if flags & _ENCRYPTED:
        raise errors.encrypted()
    extras = _extras(os.pread(descriptor, extra_bytes, member.header_at + _LOCAL_BYTES + name_bytes))
    size, stored, _ = _widened(extras.get(1, b""), (size, stored, 0))
    told = (crc32, stored, size)
    real = (member.crc32, member.stored_bytes, member.size_bytes)
    # Written as a stream, it has them after the content instead.
    later = flags & _HAS_DESCRIPTOR and all(
        value in {0, wanted} for value, wanted in zip(told, real, strict=True)
    )
    if raw[_LOCAL_BYTES:] != member.raw_name or method != member.method or not (told == real or later):
        raise errors.damaged("a member and the directory contradict each other")
    return _LOCAL_BYTES + name_bytes + extra_bytes


def _read(descriptor: int, at: int, count: int) -> bytes:
    data = os.pread(descriptor, count, at)
    if len(data) != count:
        raise errors.damaged("it is cut off")
    return data
