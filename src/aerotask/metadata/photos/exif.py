"""EXIF and XMP reader for JPEG, TIFF, PNG and WebP files; the values are not validated yet."""

from __future__ import annotations

import io
import math
import struct
import threading
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from PIL import ExifTags
from PIL.Image import Exif
from PIL.TiffImagePlugin import IFDRational

from aerotask.metadata.photos.image_blocks import MAX_BLOCK_BYTES, find_blocks
from aerotask.metadata.photos.xmp import XmpValue, parse_xmp

DAMAGED_EXIF = "damaged-exif"
DAMAGED_XMP = "damaged-xmp"

MAX_READ_BYTES = 64 * 1024 * 1024
"""Bytes read of one TIFF, whose strip and tile tables are tags too."""
MAX_READS = 50_000
MAX_VALUE_ITEMS = 256
MAX_VALUE_BYTES = 4096

_XMP_TAG = 700
_EXIF_POINTER, _GPS_POINTER = int(ExifTags.IFD.Exif), int(ExifTags.IFD.GPSInfo)
# Pointers, and the strip and tile tables, which have millions of numbers in a large raster.
_LEFT_OUT = frozenset({_XMP_TAG, _EXIF_POINTER, _GPS_POINTER, 273, 279, 288, 289, 324, 325})
# Offset of the first directory in the headers of classic TIFF and BigTIFF.
_FIRST_DIRECTORY = {
    b"II*\0": "<4xL",
    b"MM\0*": ">4xL",
    b"II+\0": "<8xQ",
    b"MM\0+": ">8xQ",
}

# `catch_warnings` replaces the process-wide filters, so one thread at a time may use it.
_CATCHING = threading.Lock()


@dataclass(frozen=True, slots=True)
class EmbeddedMetadata:
    """EXIF and XMP metadata of an image.

    `exif` holds the tags of the image and EXIF directories by their standard names, and those of the GPS directory in
    a mapping under `gps`: numbers, stripped text, bytes, or tuples of them. Values that are not finite or implausibly
    long are left out. `xmp` is in the form of `parse_xmp`.
    """

    exif: Mapping[str, Any] = field(default_factory=dict)
    xmp: Mapping[str, XmpValue] = field(default_factory=dict)
    faults: tuple[str, ...] = ()
    """`damaged-exif`, `damaged-xmp`: that part is incomplete or missing."""

    @property
    def gps(self) -> Mapping[str, Any]:
        """Tags of the GPS directory; empty if there is none."""
        return cast("Mapping[str, Any]", self.exif.get("gps", {}))


def read_embedded(path: Path) -> EmbeddedMetadata:
    """Reads the EXIF and XMP metadata of the file at `path`; empty for formats that have none.

    Raises:
        OSError: the file can't be read.
    """
    with path.open("rb") as file:
        if file.read(4) in _FIRST_DIRECTORY:
            tags = _read_tags(file)
            packet = tags.packet
        else:
            file.seek(0)
            blocks = find_blocks(file)
            tags = _read_tags(io.BytesIO(blocks.exif)) if blocks.exif else _Tags({}, None, is_sound=True)
            packet = blocks.xmp
    xmp, is_whole = parse_xmp(packet) if packet else ({}, True)
    faults = [fault for fault, sound in ((DAMAGED_EXIF, tags.is_sound), (DAMAGED_XMP, is_whole)) if not sound]
    return EmbeddedMetadata(tags.values, xmp, tuple(faults))


@dataclass(frozen=True, slots=True)
class _Tags:
    values: dict[str, Any]
    packet: bytes | None
    """XMP packet, which is a tag in TIFF."""
    is_sound: bool


class _BoundedFile:
    """File that ends after a budget of reads and bytes: Pillow trusts the sizes declared in a directory."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._bytes_left = MAX_READ_BYTES
        self._reads_left = MAX_READS
        self.tell, self.seek = file.tell, file.seek

    def read(self, size: int = -1) -> bytes:
        self._reads_left -= 1
        wanted = self._bytes_left if size < 0 else min(size, self._bytes_left)
        content = self._file.read(wanted) if self._reads_left >= 0 else b""
        self._bytes_left -= len(content)
        return content


def _read_tags(file: BinaryIO) -> _Tags:
    """Reads the tags of a TIFF stream; an EXIF block is one, too."""
    with _CATCHING, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            tags = _directories(file)
        # Pillow raises all kinds of errors for damaged tags: SyntaxError, struct.error, TypeError, AssertionError …
        except Exception:  # noqa: BLE001
            return _Tags({}, None, is_sound=False)
    # A tag with more values than usual is not damaged.
    damage = [warning for warning in caught if not str(warning.message).startswith("Metadata Warning")]
    return tags if not damage else _Tags(tags.values, tags.packet, is_sound=False)


def _directories(file: BinaryIO) -> _Tags:
    file.seek(0)
    head = file.read(16)
    (first,) = struct.unpack_from(_FIRST_DIRECTORY[head[:4]], head)
    exif = Exif()
    exif.endian = "<" if head.startswith(b"II") else ">"
    exif.bigtiff = 0x2B in head[2:4]
    exif.load_from_fp(cast("IO[bytes]", _BoundedFile(file)), first)
    packet = _packet(exif)
    values, is_sound = _named(exif, ExifTags.TAGS)
    for pointer in (_EXIF_POINTER, _GPS_POINTER):
        try:
            directory = exif.get_ifd(pointer)
        except Exception:  # noqa: BLE001  as above; the other directories may still be readable
            is_sound = False
            continue
        if pointer == _GPS_POINTER:
            found, sound = _named(directory, ExifTags.GPSTAGS)
            values |= {"gps": found} if found else {}
        else:
            found, sound = _named(directory, ExifTags.TAGS)
            values = found | values
        is_sound = is_sound and sound
    return _Tags(values, packet, is_sound)


def _packet(exif: Exif) -> bytes | None:
    packet = exif.get(_XMP_TAG)
    return packet if isinstance(packet, bytes) and len(packet) <= MAX_BLOCK_BYTES else None


def _named(tags: Mapping[int, Any] | Exif, names: Mapping[int, str]) -> tuple[dict[str, Any], bool]:
    """Plausible values by tag name, and whether all could be read."""
    found: dict[str, Any] = {}
    is_sound = True
    for number in sorted(tags):
        if number not in names or number in _LEFT_OUT:
            continue
        try:
            value = _plain(tags[number])
        except Exception:  # noqa: BLE001  as above
            is_sound = False
            continue
        if value is not None:
            found[names[number]] = value
    return found, is_sound


def _plain(value: Any) -> Any:
    """The value without Pillow's own types; None if it is empty, too long or not finite."""
    if isinstance(value, tuple):
        items = [_plain(item) for item in value] if len(value) <= MAX_VALUE_ITEMS else []
        return None if not items or None in items else tuple(items)
    if isinstance(value, IFDRational | float):
        number = float(value)
        return number if math.isfinite(number) else None
    if isinstance(value, str):
        return value.split("\0", 1)[0].strip()[:MAX_VALUE_BYTES] or None
    if isinstance(value, bytes):
        return value if 0 < len(value) <= MAX_VALUE_BYTES else None
    return value if isinstance(value, int) else None
