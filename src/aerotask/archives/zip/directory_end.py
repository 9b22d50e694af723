"""End of a ZIP file: finds the central directory, also behind a prefix or in front of a tail.

A self-extracting ZIP has a program in front, and its offsets may count from the program's end; downloads may have a few
bytes behind the end record. Both are read as Info-ZIP's `unzip` reads them, unless the file begins as a ZIP itself:
then the part in front would be members that the directory doesn't have, as in a truncated ZIP that holds another one.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass

from aerotask.archives import errors
from aerotask.domain.errors import InvalidInput

CENTRAL_BYTES = 46
_LOCAL_SIGNATURE, _CENTRAL_SIGNATURE, _END_SIGNATURE = b"PK\3\4", b"PK\1\2", b"PK\5\6"
_SPLIT_MARK = b"PK\7\x08"
_END_BYTES, _LOCATOR_BYTES, _END64_BYTES = 22, 20, 56
_MAX_COMMENT = 0xFFFF
_WIDE_2, _WIDE_4 = 0xFFFF, 0xFFFFFFFF
_TOO_LARGE = (_WIDE_2, _WIDE_2, _WIDE_2, _WIDE_2, _WIDE_4, _WIDE_4)
"""Values in the end record whose real value is in the ZIP64 end record."""


@dataclass(frozen=True, slots=True)
class DirectoryEnd:
    """Offset in the file, size and member count of the directory, by the end record.

    `prefix_bytes` is to be added to the offsets in the directory.
    """

    at: int
    size_bytes: int
    count: int
    prefix_bytes: int = 0


def find_directory(descriptor: int, file_bytes: int) -> DirectoryEnd:
    """Directory of the ZIP file.

    Raises:
        InvalidInput: the file is truncated, contradicts itself, or is a part of a multi-volume archive.
    """
    if os.pread(descriptor, 4, 0) == _SPLIT_MARK:
        raise errors.multi_volume("ZIP")
    end_at = _find_end(descriptor, file_bytes)
    record = read_exactly(descriptor, end_at, _END_BYTES)
    disk, first_disk, disk_count, count, size_bytes, at = struct.unpack("<4H2L", record[4:20])
    zip64_at = _find_zip64_end(descriptor, end_at)
    if zip64_at is not None:
        fields = (disk, first_disk, disk_count, count, size_bytes, at)
        return _zip64_directory(descriptor, zip64_at, end_fields=fields)
    if _is_split(disk, first_disk, disk_count, count):
        raise errors.multi_volume("ZIP")
    if at == _WIDE_4:
        # Info-ZIP's `zip -fz` into a pipe marks the offset as too large but writes no ZIP64 end record.
        at = end_at - size_bytes
    return _checked(descriptor, DirectoryEnd(at, size_bytes, count), end_at)


def ends_as_zip(descriptor: int, file_bytes: int) -> bool:
    """Whether a file that doesn't begin as a ZIP ends as one, such as a self-extracting program.

    Raises:
        InvalidInput: it is a part of a multi-volume archive.
    """
    try:
        return find_directory(descriptor, file_bytes).count > 0
    except InvalidInput as error:
        if error.code != errors.DAMAGED:
            raise
        return False


def read_exactly(descriptor: int, at: int, count: int) -> bytes:
    """Bytes of the file.

    Raises:
        InvalidInput: the file ends before.
    """
    data = os.pread(descriptor, count, at)
    if len(data) != count:
        raise errors.damaged("it is truncated")
    return data


def _find_end(descriptor: int, file_bytes: int) -> int:
    """Offset of the end record, preferably of one that ends the file: a comment could contain another one."""
    tail_bytes = min(file_bytes, _END_BYTES + _MAX_COMMENT)
    tail_at = file_bytes - tail_bytes
    tail = read_exactly(descriptor, tail_at, tail_bytes)
    begin, last = tail.rfind(_END_SIGNATURE), -1
    while begin >= 0:
        end = begin + _END_BYTES + int.from_bytes(tail[begin + 20 : begin + 22], "little")
        if end == tail_bytes:
            return tail_at + begin
        if last < 0 and end < tail_bytes:
            last = begin
        begin = tail.rfind(_END_SIGNATURE, 0, begin)
    if last < 0:
        raise errors.damaged("its end record is missing; the upload may be incomplete")
    return tail_at + last


def _is_split(disk: int, first_disk: int, disk_count: int, count: int) -> bool:
    return bool(disk or first_disk or disk_count != count)


def _find_zip64_end(descriptor: int, end_at: int) -> int | None:
    """Offset of the ZIP64 end record by its locator; None without a locator before the end record."""
    if end_at < _LOCATOR_BYTES + _END64_BYTES:
        return None
    locator_at = end_at - _LOCATOR_BYTES
    signature, disk, zip64_at, disks = struct.unpack(
        "<4sLQL", read_exactly(descriptor, locator_at, _LOCATOR_BYTES)
    )
    if signature != b"PK\6\7":
        return None
    if disk or disks > 1:
        raise errors.multi_volume("ZIP")
    if zip64_at > locator_at - _END64_BYTES:
        raise errors.damaged("its end record points outside the file")
    # Behind a prefix it isn't where the locator says, but still in front of it.
    is_there = os.pread(descriptor, 4, zip64_at) == b"PK\6\6"
    return int(zip64_at) if is_there else locator_at - _END64_BYTES


def _zip64_directory(descriptor: int, zip64_at: int, *, end_fields: tuple[int, ...]) -> DirectoryEnd:
    """The directory by the ZIP64 end record, which must not contradict the fields of the end record."""
    fields: tuple[int, ...]
    record = struct.unpack("<4sQ2H2L4Q", read_exactly(descriptor, zip64_at, _END64_BYTES))
    signature, fields = record[0], record[4:]
    disk, first_disk, disk_count, count, size_bytes, at = fields
    if signature != b"PK\6\6" or _is_split(disk, first_disk, disk_count, count):
        raise errors.damaged("its ZIP64 end record is invalid")
    for end_value, zip64_value, too_large in zip(end_fields, fields, _TOO_LARGE, strict=True):
        if end_value not in {zip64_value, too_large}:
            raise errors.damaged("its two end records contradict each other")
    return _checked(descriptor, DirectoryEnd(at, size_bytes, count), zip64_at)


def _checked(descriptor: int, declared: DirectoryEnd, end_at: int) -> DirectoryEnd:
    """The directory, which must end at `end_at`; bytes in front of a self-extracting archive are allowed for."""
    prefix_bytes = end_at - declared.at - declared.size_bytes
    if prefix_bytes < 0 or (prefix_bytes and os.pread(descriptor, 4, 0) == _LOCAL_SIGNATURE):
        raise errors.damaged("its directory isn't where its end record says; the upload may be incomplete")
    at = declared.at + prefix_bytes
    if declared.count and os.pread(descriptor, 4, at) != _CENTRAL_SIGNATURE:
        raise errors.damaged("its directory isn't where its end record says; the upload may be incomplete")
    if declared.count * CENTRAL_BYTES > declared.size_bytes:
        raise errors.damaged("its directory is too short for its members")
    return DirectoryEnd(at, declared.size_bytes, declared.count, prefix_bytes)
