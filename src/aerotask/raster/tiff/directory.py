"""TIFF headers and directories as little-endian bytes: TIFF 6.0 section 2, and BigTIFF."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

HEADER_BYTES = 16
"""Space reserved at the start of the file: the size of a BigTIFF header; a classic one has 8 bytes."""

CLASSIC_LIMIT_BYTES = 2**32
"""Offsets of classic TIFF have 32 bits; a file that reaches this far must be a BigTIFF."""


class FieldType(IntEnum):
    """The field types that are written here."""

    BYTE = 1
    ASCII = 2
    SHORT = 3
    LONG = 4
    UNDEFINED = 7
    LONG8 = 16


class TagCode(IntEnum):
    """Tags that depend on an image's size, tags of the main image alone, and those that describe a mask."""

    SUBFILE_TYPE = 254
    WIDTH = 256
    LENGTH = 257
    BITS_PER_SAMPLE = 258
    COMPRESSION = 259
    PHOTOMETRIC = 262
    SAMPLES_PER_PIXEL = 277
    PLANAR_CONFIGURATION = 284
    STRIP_OFFSETS = 273
    ROWS_PER_STRIP = 278
    STRIP_BYTE_COUNTS = 279
    TILE_WIDTH = 322
    TILE_LENGTH = 323
    TILE_OFFSETS = 324
    TILE_BYTE_COUNTS = 325
    MAKE = 271
    MODEL = 272
    SOFTWARE = 305
    DATE_TIME = 306
    MODEL_PIXEL_SCALE = 33550
    MODEL_TIEPOINT = 33922
    MODEL_TRANSFORMATION = 34264
    GEO_KEYS = 34735
    GEO_DOUBLES = 34736
    GEO_ASCII = 34737
    EXIF_DIRECTORY = 34665
    GPS_DIRECTORY = 34853
    XMP = 700
    ICC_PROFILE = 34675
    GDAL_METADATA = 42112
    GDAL_NODATA = 42113


_ITEM_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 16: 8}
_FORMATS: Mapping[int, str] = {
    FieldType.BYTE: "B",
    FieldType.SHORT: "H",
    FieldType.LONG: "I",
    FieldType.LONG8: "Q",
}


@dataclass(frozen=True, slots=True)
class Field:
    """Entry of a directory; `data` holds all its values, little-endian."""

    code: int
    kind: int
    data: bytes

    @property
    def count(self) -> int:
        """The number of values."""
        return len(self.data) // _ITEM_BYTES[self.kind]


def field(code: int, kind: FieldType, *values: int) -> Field:
    """A field of integers."""
    return Field(code, kind, struct.pack(f"<{len(values)}{_FORMATS[kind]}", *values))


def parse_first_directory(content: bytes) -> dict[int, Field]:
    """The fields of the first directory of a small, classic, little-endian TIFF that GDAL wrote."""
    signature, first = struct.unpack_from("<4sI", content)
    if signature != b"II*\0":
        raise ValueError("not a classic little-endian TIFF")
    return parse_directory(content, first)


def parse_directory(content: bytes, start: int) -> dict[int, Field]:
    """The fields of the directory at `start` of a small, classic, little-endian TIFF."""
    (entries,) = struct.unpack_from("<H", content, start)
    fields: dict[int, Field] = {}
    for number in range(entries):
        at = start + 2 + 12 * number
        code, kind, count = struct.unpack_from("<HHI", content, at)
        size = count * _ITEM_BYTES[kind]
        values_at = at + 8 if size <= 4 else struct.unpack_from("<I", content, at + 8)[0]
        fields[code] = Field(code, kind, content[values_at : values_at + size])
    return fields


def pack_header(*, big: bool, first_directory: int) -> bytes:
    """The first `HEADER_BYTES` of the file."""
    if big:
        return struct.pack("<4sHHQ", b"II+\0", 8, 0, first_directory)
    return struct.pack("<4sIQ", b"II*\0", first_directory, 0)


def pack_directories(directories: Sequence[Sequence[Field]], *, start: int, big: bool) -> bytes:
    """The directories one after the other, each pointing to the next, for the offset `start` (an even number)."""
    content = bytearray()
    for number, fields in enumerate(directories):
        is_last = number == len(directories) - 1
        content += _pack_directory(fields, at=start + len(content), is_last=is_last, big=big)
    return bytes(content)


def _pack_directory(fields: Sequence[Field], *, at: int, is_last: bool, big: bool) -> bytes:
    """A directory, followed by the values that don't fit into its entries."""
    inline_bytes = 8 if big else 4
    values_at = at + (16 + 20 * len(fields) if big else 6 + 12 * len(fields))
    entries, values = bytearray(), bytearray()
    for entry in sorted(fields, key=lambda item: item.code):
        entries += struct.pack("<HHQ" if big else "<HHI", entry.code, entry.kind, entry.count)
        if len(entry.data) <= inline_bytes:
            entries += entry.data.ljust(inline_bytes, b"\0")
        else:
            entries += struct.pack("<Q" if big else "<I", values_at + len(values))
            values += entry.data + bytes(-len(entry.data) % 8)
    following = 0 if is_last else _aligned(values_at + len(values))
    count = struct.pack("<Q" if big else "<H", len(fields))
    body = count + entries + struct.pack("<Q" if big else "<I", following) + values
    return bytes(body) + bytes(0 if is_last else following - at - len(body))


def _aligned(offset: int) -> int:
    return offset + -offset % 8
