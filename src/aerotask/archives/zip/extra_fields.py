"""Extra fields of ZIP headers (PKWARE APPNOTE 6.3.10, section 4.5; Info-ZIP's extrafld.txt): sizes, times, names."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from datetime import UTC, datetime

from isal import isal_zlib

from aerotask.archives import errors

_WIDE_4 = 0xFFFFFFFF
_ZIP64, _NTFS, _EXTENDED_TIME, _UNIX_TIME, _OLD_UNIX_TIME, _UNICODE_PATH = 1, 0xA, 0x5455, 0x5855, 0xD, 0x7075
_NTFS_EPOCH_S = 11_644_473_600
"""Seconds from 1601, NTFS's year zero, to 1970."""


def parse_extras(extra: bytes) -> dict[int, bytes]:
    """The fields by their number; of equal ones the first."""
    found: dict[int, bytes] = {}
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack("<2H", extra[at : at + 4])
        found.setdefault(kind, extra[at + 4 : at + 4 + length])
        at += 4 + length
    return found


def widened(extras: Mapping[int, bytes], values: tuple[int, int, int]) -> tuple[int, int, int]:
    """The values, those marked as too large for 32 bits replaced from the ZIP64 field.

    Raises:
        InvalidInput: the field is too short.
    """
    wide, taken = extras.get(_ZIP64, b""), 0
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


def unicode_path(extras: Mapping[int, bytes], raw_name: bytes) -> bytes | None:
    """The name in UTF-8, if the field belongs to the name in the header."""
    field = extras.get(_UNICODE_PATH, b"")
    if len(field) > 5 and int.from_bytes(field[1:5], "little") == isal_zlib.crc32(raw_name):
        return field[5:]
    return None


def modified_at(extras: Mapping[int, bytes], dos_time: int, dos_date: int) -> int | None:
    """Modification time in Unix seconds, the header's own time taken as UTC if no field has one; None if it is unset."""
    extended = extras.get(_EXTENDED_TIME, b"")
    if len(extended) >= 5 and extended[0] & 1:
        return int.from_bytes(extended[1:5], "little", signed=True)
    ntfs = extras.get(_NTFS, b"")
    if len(ntfs) >= 16 and ntfs[4:8] == b"\1\0\x18\0":
        return int.from_bytes(ntfs[8:16], "little") // 10_000_000 - _NTFS_EPOCH_S
    for kind in (_UNIX_TIME, _OLD_UNIX_TIME):
        unix = extras.get(kind, b"")
        if len(unix) >= 8:
            return int.from_bytes(unix[4:8], "little", signed=True)
    return _dos_seconds(dos_time, dos_date)


def _dos_seconds(time: int, date: int) -> int | None:
    try:
        moment = datetime(
            1980 + (date >> 9),
            date >> 5 & 15,
            date & 31,
            time >> 11,
            time >> 5 & 63,
            min(2 * (time & 31), 59),
            tzinfo=UTC,
        )
    except ValueError:
        return None
    return int(moment.timestamp())
