"""COG layout: the tiles of a `TiledTiff` as a cloud-optimised GeoTIFF, directories first, overviews before the image.

The compressed tiles are copied as they are. The layout is the one that GDAL documents for its COG driver
(https://gdal.org/en/stable/drivers/raster/cog.html), its ghost area included, so that GDAL takes it for its own.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from pathlib import Path
from typing import BinaryIO

from aerotask.raster.tiff.codec import DEFLATE_LEVEL, TileLayout
from aerotask.raster.tiff.directory import (
    CLASSIC_LIMIT_BYTES,
    HEADER_BYTES,
    Field,
    FieldType,
    TagCode,
    field,
    pack_directories,
    pack_header,
)
from aerotask.raster.tiff.writer import TiffLevel, TiledTiff, directory_fields

_GHOST = (
    b"LAYOUT=IFDS_BEFORE_DATA\nBLOCK_ORDER=ROW_MAJOR\nBLOCK_LEADER=SIZE_AS_UINT4\n"
    b"BLOCK_TRAILER=LAST_4_BYTES_REPEATED\nKNOWN_INCOMPATIBLE_EDITION=NO\n "
)
GHOST = b"GDAL_STRUCTURAL_METADATA_SIZE=%06d bytes\n" % len(_GHOST) + _GHOST
"""Ghost area: GDAL's description of the layout, between the header and the first directory."""

_LEADER_BYTES = _TRAILER_BYTES = 4
_CLASSIC_HEADER_BYTES = 8
_BYTES_PER_TILE = 8 + _LEADER_BYTES + _TRAILER_BYTES
"""Overhead of a tile: offset and size in the directory, leader and trailer."""
_HEADROOM_BYTES = 256 * 1024
_BUFFER_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ImageFields:
    """Fields that don't depend on the image's size, and the sub-directories (EXIF, GPS) by their tag."""

    fields: tuple[Field, ...] = ()
    sub_directories: Mapping[int, Sequence[Field]] = dataclass_field(default_factory=dict)


@contextmanager
def scratch_tiff(
    target: Path, layout: TileLayout, *, deflate_level: int = DEFLATE_LEVEL
) -> Iterator[TiledTiff]:
    """The tiles of the COG that will be at `target`, in a file beside it (`.tiles`) that is removed at the end."""
    scratch = target.with_name(target.name + ".tiles")
    # A killed attempt may have left one.
    scratch.unlink(missing_ok=True)
    try:
        with TiledTiff(scratch, layout, deflate_level=deflate_level) as tiff:
            yield tiff
    finally:
        scratch.unlink(missing_ok=True)


def arrange_cog(
    tiff: TiledTiff,
    target: Path,
    image: ImageFields,
    *,
    on_progress: Callable[[float], None],
    classic_limit_bytes: int = CLASSIC_LIMIT_BYTES,
) -> int:
    """Write the COG at `target`, which must not exist, and return its size; a BigTIFF only if the size demands it.

    Raises:
        OSError: it can't be written; `errno` says why.
    """
    tiles = sum(len(level.offsets) for level in tiff.levels)
    data_bytes = sum(sum(level.byte_counts) for level in tiff.levels)
    big = data_bytes + tiles * _BYTES_PER_TILE + _HEADROOM_BYTES > classic_limit_bytes
    head = _FileHead(tiff, image, big=big)
    offsets_by_level, size_bytes = _plan_offsets(tiff.levels, start=head.end)
    with target.open("xb", buffering=_BUFFER_BYTES) as file:
        file.write(head.packed(offsets_by_level))
        _copy_tiles(tiff, file, on_progress)
    return size_bytes


class _FileHead:
    """Everything before the tiles; its length doesn't depend on their offsets."""

    def __init__(self, tiff: TiledTiff, image: ImageFields, *, big: bool) -> None:
        self._tiff, self._image, self._big = tiff, image, big
        self._header_bytes = HEADER_BYTES if big else _CLASSIC_HEADER_BYTES
        unplaced = [array("Q", bytes(8 * len(level.offsets))) for level in tiff.levels]
        self.end = len(self.packed(unplaced))

    def packed(self, offsets_by_level: Sequence[array[int]]) -> bytes:
        """The bytes for given tile offsets of each level."""
        start = _aligned(self._header_bytes + len(GHOST))
        header = pack_header(big=self._big, first_directory=start)[: self._header_bytes]
        subs_at = start + _aligned(
            len(self._directories(offsets_by_level, dict.fromkeys(self._image.sub_directories, 0)))
        )
        pointers, subs = self._pack_subs(subs_at)
        directories = self._directories(offsets_by_level, pointers)
        head = (header + GHOST).ljust(start, b"\0") + directories
        return (head.ljust(subs_at, b"\0") + subs).ljust(_aligned(subs_at + len(subs)), b"\0")

    def _pack_subs(self, start: int) -> tuple[dict[int, int], bytes]:
        """The offset of each sub-directory, and their bytes from `start` on."""
        pointers, content = {}, b""
        for code, fields in self._image.sub_directories.items():
            pointers[code] = start + len(content)
            content += pack_directories([fields], start=pointers[code], big=self._big)
            content = content.ljust(_aligned(len(content)), b"\0")
        return pointers, content

    def _directories(self, offsets_by_level: Sequence[array[int]], pointers: Mapping[int, int]) -> bytes:
        kind, typecode = (FieldType.LONG8, "Q") if self._big else (FieldType.LONG, "I")
        links = [field(code, kind, at) for code, at in pointers.items()]
        directories = []
        for number, (level, offsets) in enumerate(zip(self._tiff.levels, offsets_by_level, strict=True)):
            fields = directory_fields(
                level, self._tiff.layout, self._image.fields, is_overview=number > 0, big=self._big
            )
            placed = Field(TagCode.TILE_OFFSETS, kind, array(typecode, offsets).tobytes())
            fields = [item for item in fields if item.code != TagCode.TILE_OFFSETS] + [placed]
            directories.append(fields if number else [*fields, *links])
        return pack_directories(directories, start=_aligned(self._header_bytes + len(GHOST)), big=self._big)


def _plan_offsets(levels: Sequence[TiffLevel], *, start: int) -> tuple[list[array[int]], int]:
    """The tile offsets of every level, and the end of the last tile; the smallest overview comes first."""
    offsets_by_level: list[array[int]] = []
    at = start
    for level in reversed(levels):
        offsets = array("Q")
        for size in level.byte_counts:
            offsets.append(at + _LEADER_BYTES)
            at += _LEADER_BYTES + size + _TRAILER_BYTES
        offsets_by_level.append(offsets)
    return offsets_by_level[::-1], at


def _copy_tiles(tiff: TiledTiff, file: BinaryIO, on_progress: Callable[[float], None]) -> None:
    total = sum(len(level.offsets) for level in tiff.levels)
    done = 0
    for level in reversed(tiff.levels):
        for number in range(len(level.offsets)):
            data = tiff.get_compressed(level, number)
            file.write(struct.pack("<I", len(data)))
            file.write(data)
            file.write(data[-_TRAILER_BYTES:])
            done += 1
            on_progress(done / total)


def _aligned(offset: int) -> int:
    return offset + -offset % 16
