"""EXIF and XMP blocks of JPEG, PNG and WebP files, found without decoding the image."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

MAX_BLOCK_BYTES = 1024 * 1024
"""Size of one EXIF or XMP block; a longer one is ignored. (A JPEG segment holds 64 KiB.)"""
MAX_STEPS = 10_000
"""Segments or chunks that are visited in one file."""

_EXIF = b"Exif\0\0"
_XMP_IN_JPEG = b"http://ns.adobe.com/xap/1.0/\0"
_XMP_IN_PNG = b"XML:com.adobe.xmp\0"
_START_OF_SCAN, _END_OF_IMAGE, _APP1 = 0xDA, 0xD9, 0xE1
# Markers without a length: TEM, and the restart markers.
_BARE = frozenset({0x01, *range(0xD0, 0xD9)})


@dataclass(frozen=True, slots=True)
class MetadataBlocks:
    """Raw EXIF and XMP blocks of a file, without the container's prefixes."""

    exif: bytes | None = None
    xmp: bytes | None = None


def find_blocks(file: BinaryIO) -> MetadataBlocks:
    """Finds the EXIF and XMP blocks of a file; none in an unknown format.

    In a damaged file the blocks before the damage are found.
    """
    walk = _walker(file.read(12))
    if walk is None:
        return MetadataBlocks()
    exif = xmp = None
    for step, (kind, block) in enumerate(walk(file)):
        if kind == "exif":
            exif = exif or block
        elif kind == "xmp":
            xmp = xmp or block
        if step >= MAX_STEPS or (exif and xmp):
            break
    return MetadataBlocks(exif, xmp)


_Walk = Callable[[BinaryIO], Iterator[tuple[str, bytes]]]


def _walker(start: bytes) -> _Walk | None:
    if start.startswith(b"\xff\xd8\xff"):
        return _walk_jpeg
    if start.startswith(b"\x89PNG\r\n\x1a\n"):
        return _walk_png
    if start.startswith(b"RIFF") and start[8:12] == b"WEBP":
        return _walk_webp
    return None


def _walk_jpeg(file: BinaryIO) -> Iterator[tuple[str, bytes]]:
    """Segments before the image data (ITU-T T.81, annex B); XMP as in Adobe's XMP Specification, part 3."""
    file.seek(2)
    while len(head := file.read(2)) == 2 and head[0] == 0xFF:
        if head[1] == 0xFF:  # a fill byte
            file.seek(-1, io.SEEK_CUR)
            continue
        if head[1] in _BARE:
            continue
        size = file.read(2)
        if head[1] in {_START_OF_SCAN, _END_OF_IMAGE} or len(size) < 2 or size < b"\0\2":
            return
        end = file.tell() + struct.unpack(">H", size)[0] - 2
        block = file.read(end - file.tell()) if head[1] == _APP1 else b""
        if block.startswith(_EXIF):
            yield "exif", block.removeprefix(_EXIF)
        elif block.startswith(_XMP_IN_JPEG):
            yield "xmp", block.removeprefix(_XMP_IN_JPEG)
        else:
            yield "other", b""
        file.seek(end)


def _walk_png(file: BinaryIO) -> Iterator[tuple[str, bytes]]:
    """Chunks of a PNG (W3C PNG Specification, third edition, section 11)."""
    file.seek(8)
    while len(head := file.read(8)) == 8:
        size, kind = struct.unpack(">I4s", head)
        end = file.tell() + size + 4  # the checksum
        block = file.read(size) if kind in {b"eXIf", b"iTXt"} and size <= MAX_BLOCK_BYTES else b""
        if kind == b"eXIf":
            yield "exif", block.removeprefix(_EXIF)
        elif kind == b"iTXt" and block.startswith(_XMP_IN_PNG):
            yield "xmp", _international_text(block)
        else:
            yield "other", b""
        file.seek(end)


def _international_text(block: bytes) -> bytes:
    """Text of an iTXt chunk; empty if it is compressed, which the XMP Specification forbids."""
    compressed, rest = block[len(_XMP_IN_PNG) :][:1], block[len(_XMP_IN_PNG) + 2 :]
    return b"" if compressed != b"\0" else rest.split(b"\0", 2)[-1]


def _walk_webp(file: BinaryIO) -> Iterator[tuple[str, bytes]]:
    """Chunks of a WebP file (RFC 9649, section 2)."""
    file.seek(12)
    while len(head := file.read(8)) == 8:
        kind, size = struct.unpack("<4sI", head)
        end = file.tell() + size + size % 2
        block = file.read(size) if kind in {b"EXIF", b"XMP "} and size <= MAX_BLOCK_BYTES else b""
        if kind == b"EXIF":
            yield "exif", block.removeprefix(_EXIF)
        else:
            yield ("xmp", block) if kind == b"XMP " else ("other", b"")
        file.seek(end)
