"""ZIP records as bytes (PKWARE APPNOTE 6.3.10), shared by the file writer and the stream writer."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from datetime import UTC, datetime

STORED = 0
DEFLATED = 8
UTF8_NAME = 0x0800
_ZIP64_AT = 0xFFFFFFFF
_ZIP64_COUNT = 0xFFFF
_MADE_BY_UNIX = 3 << 8 | 45
_FILE_MODE = 0o100644 << 16
_FOLDER_MODE = 0o040755 << 16 | 0x10
_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR64 = struct.Struct("<4sLQL")
# DOS times range from 1980 to 2107.
_FIRST_YEAR, _LAST_YEAR = 1980, 2107
_MAX_UNIX_32 = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Record:
    """Header fields of one member; `offset` is that of its local header."""

    name: bytes
    """UTF-8; a folder's ends with `/`."""
    mtime: int
    """Unix seconds."""
    method: int
    crc32: int
    stored_bytes: int
    size_bytes: int
    offset: int = 0


def encoded_name(path: str, *, is_folder: bool = False) -> bytes:
    """Member name for a dataset path."""
    return (path + "/" if is_folder else path).encode()


def folder_record(path: str, mtime: int) -> Record:
    """Record of a folder, which has no content."""
    return Record(encoded_name(path, is_folder=True), mtime, STORED, 0, 0, 0)


def local_header(record: Record, *, wide: bool | None = None) -> bytes:
    """Local header, written before a member's content.

    `wide` forces ZIP64 sizes, so that the header can be overwritten in place once the compressed size is known.
    """
    is_wide = max(record.size_bytes, record.stored_bytes) >= _ZIP64_AT if wide is None else wide
    extra = _local_extra(record, wide=is_wide)
    return (
        _LOCAL.pack(
            b"PK\3\4",
            45 if is_wide else 20,
            UTF8_NAME,
            record.method,
            *dos_time(record.mtime),
            record.crc32,
            _ZIP64_AT if is_wide else record.stored_bytes,
            _ZIP64_AT if is_wide else record.size_bytes,
            len(record.name),
            len(extra),
        )
        + record.name
        + extra
    )


def central_header(record: Record) -> bytes:
    """Central directory header of a member."""
    large = [value for value in (record.size_bytes, record.stored_bytes, record.offset) if value >= _ZIP64_AT]
    extra = struct.pack(f"<2H{len(large)}Q", 1, 8 * len(large), *large) if large else b""
    extra += _unix_time(record.mtime)
    return (
        _CENTRAL.pack(
            b"PK\1\2",
            _MADE_BY_UNIX,
            45 if large else 20,
            UTF8_NAME,
            record.method,
            *dos_time(record.mtime),
            record.crc32,
            min(record.stored_bytes, _ZIP64_AT),
            min(record.size_bytes, _ZIP64_AT),
            len(record.name),
            len(extra),
            0,
            0,
            0,
            _FOLDER_MODE if record.name.endswith(b"/") else _FILE_MODE,
            min(record.offset, _ZIP64_AT),
        )
        + record.name
        + extra
    )


def end_records(*, count: int, directory_at: int, directory_bytes: int) -> bytes:
    """End records: location, size and member count of the central directory."""
    end = _END.pack(
        b"PK\5\6",
        0,
        0,
        min(count, _ZIP64_COUNT),
        min(count, _ZIP64_COUNT),
        min(directory_bytes, _ZIP64_AT),
        min(directory_at, _ZIP64_AT),
        0,
    )
    if count < _ZIP64_COUNT and max(directory_at, directory_bytes) < _ZIP64_AT:
        return end
    end64 = _END64.pack(b"PK\6\6", 44, _MADE_BY_UNIX, 45, 0, 0, count, count, directory_bytes, directory_at)
    return end64 + _LOCATOR64.pack(b"PK\6\7", 0, directory_at + directory_bytes, 1) + end


def dos_time(mtime: int) -> tuple[int, int]:
    """DOS time and date, in UTC with a resolution of two seconds, clamped to the range of the format."""
    moment = datetime.fromtimestamp(min(max(mtime, 0), 2**33), UTC)
    if moment.year < _FIRST_YEAR:
        return 0, 1 << 5 | 1
    if moment.year > _LAST_YEAR:
        return 23 << 11 | 59 << 5 | 29, (_LAST_YEAR - _FIRST_YEAR) << 9 | 12 << 5 | 31
    return (
        moment.hour << 11 | moment.minute << 5 | moment.second // 2,
        (moment.year - _FIRST_YEAR) << 9 | moment.month << 5 | moment.day,
    )


def _local_extra(record: Record, *, wide: bool) -> bytes:
    sizes = struct.pack("<2H2Q", 1, 16, record.size_bytes, record.stored_bytes) if wide else b""
    return sizes + _unix_time(record.mtime)


def _unix_time(mtime: int) -> bytes:
    """Time in UTC to the second (Info-ZIP's extended timestamp); empty if it doesn't fit into 32 bits."""
    if not 0 <= mtime <= _MAX_UNIX_32:
        return b""
    return struct.pack("<2HBl", 0x5455, 5, 1, mtime)
