"""Writer of a tiled TIFF: any thread appends tiles in any order, `finish` adds directories and header.

The image and its overviews are *levels*. Blank tiles are stored once and shared.
"""

from __future__ import annotations

import os
import threading
from array import array
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from aerotask.raster.tiff.codec import DEFLATE_LEVEL, Tile, TileLayout, decode, encode
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
from aerotask.raster.windows import Shape, grid_shape

_DIRECTORY_HEADROOM_BYTES = 64 * 1024
_MAIN_IMAGE_ONLY = {
    TagCode.MAKE,
    TagCode.MODEL,
    TagCode.SOFTWARE,
    TagCode.DATE_TIME,
    TagCode.EXIF_DIRECTORY,
    TagCode.GPS_DIRECTORY,
    TagCode.MODEL_PIXEL_SCALE,
    TagCode.MODEL_TIEPOINT,
    TagCode.MODEL_TRANSFORMATION,
    TagCode.GEO_KEYS,
    TagCode.GEO_DOUBLES,
    TagCode.GEO_ASCII,
    TagCode.XMP,
    TagCode.ICC_PROFILE,
    TagCode.GDAL_METADATA,
}
_REDUCED_IMAGE, _MASK = 1, 4
_ADOBE_DEFLATE = 8
_MASK_PHOTOMETRIC = 4
MASK_FIELDS = (
    field(TagCode.BITS_PER_SAMPLE, FieldType.SHORT, 1),
    field(TagCode.COMPRESSION, FieldType.SHORT, _ADOBE_DEFLATE),
    field(TagCode.PHOTOMETRIC, FieldType.SHORT, _MASK_PHOTOMETRIC),
    field(TagCode.SAMPLES_PER_PIXEL, FieldType.SHORT, 1),
    field(TagCode.PLANAR_CONFIGURATION, FieldType.SHORT, 1),
)
"""The fields of a transparency mask that don't depend on its size (TIFF 6.0, section 8, `NewSubfileType`)."""


class TiffLevel:
    """Offsets and sizes of the tiles of the image, or of one overview; 16 bytes of memory for each."""

    def __init__(self, shape_yx: Shape, tile_yx: Shape) -> None:
        self.shape_yx = shape_yx
        self.grid_yx = grid_shape(shape_yx, tile_yx)
        tiles = self.grid_yx[0] * self.grid_yx[1]
        self.offsets = array("Q", bytes(8 * tiles))
        self.byte_counts = array("Q", bytes(8 * tiles))

    def number_of(self, place_yx: Shape) -> int:
        """The tile's index in the order of the directory."""
        return place_yx[0] * self.grid_yx[1] + place_yx[1]


class TiledTiff:
    """Writer of one file at `path`, which must not exist; a context manager that closes it.

    `mask` is the writer of the image's mask, with the same tiles; only `cog_layout.arrange_cog` joins both.
    """

    def __init__(
        self,
        path: Path,
        layout: TileLayout,
        *,
        deflate_level: int = DEFLATE_LEVEL,
        mask: TiledTiff | None = None,
    ) -> None:
        self.layout = layout
        self.mask = mask
        self._deflate_level = deflate_level
        self._levels: list[TiffLevel] = []
        self._end = HEADER_BYTES
        self._lock = threading.Lock()
        self._blank: tuple[int, int] | None = None
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)

    def add_level(self, shape_yx: Shape) -> TiffLevel:
        """Add the image (first) or its next overview, without tiles, to the image and its mask."""
        if self.mask:
            self.mask.add_level(shape_yx)
        level = TiffLevel(shape_yx, self.layout.tile_yx)
        self._levels.append(level)
        return level

    def put(self, level: TiffLevel, place_yx: Shape, tile: Tile) -> None:
        """Compress and store a tile.

        Raises:
            OSError: it can't be written; `errno` says why (`ENOSPC`, for example).
        """
        data = encode(tile, level=self._deflate_level)
        number = level.number_of(place_yx)
        level.offsets[number], level.byte_counts[number] = self._append(data), len(data)

    def put_blank(self, level: TiffLevel, place_yx: Shape) -> None:
        """Store a blank tile: all of them share one copy."""
        with self._lock:
            if self._blank is None:
                data = encode(self.layout.new_tile(), level=self._deflate_level)
                self._blank = self._append_locked(data), len(data)
        number = level.number_of(place_yx)
        level.offsets[number], level.byte_counts[number] = self._blank

    def get(self, level: TiffLevel, place_yx: Shape) -> Tile | None:
        """Read a stored tile back; None if it is blank."""
        number = level.number_of(place_yx)
        offset, size = level.offsets[number], level.byte_counts[number]
        if self._blank and offset == self._blank[0]:
            return None
        return decode(os.pread(self._file, size, offset), self.layout)

    @property
    def levels(self) -> Sequence[TiffLevel]:
        """The image and its overviews, in the order in which they were added."""
        return self._levels

    def get_compressed(self, level: TiffLevel, number: int) -> bytes:
        """The stored bytes of the level's tile with that index."""
        return os.pread(self._file, level.byte_counts[number], level.offsets[number])

    def finish(self, template: Sequence[Field], *, classic_limit_bytes: int = CLASSIC_LIMIT_BYTES) -> int:
        """Write the directories and the header, and return the size of the file.

        `template` holds the fields that don't depend on the image's size. The file is a BigTIFF only if its size demands it.
        """
        start = self._end + -self._end % 16
        tiles = sum(len(level.offsets) for level in self._levels)
        directory_bytes = 16 * tiles + len(self._levels) * sum(16 + 2 * len(item.data) for item in template)
        big = start + directory_bytes + _DIRECTORY_HEADROOM_BYTES > classic_limit_bytes
        directories = [
            directory_fields(level, self.layout, template, is_overview=number > 0, big=big)
            for number, level in enumerate(self._levels)
        ]
        content = pack_directories(directories, start=start, big=big)
        self._write(content, start)
        self._write(pack_header(big=big, first_directory=start), 0)
        return start + len(content)

    def _append(self, data: bytes | bytearray) -> int:
        with self._lock:
            offset = self._end
            self._end += len(data)
        self._write(data, offset)
        return offset

    def _append_locked(self, data: bytes | bytearray) -> int:
        offset = self._end
        self._end += len(data)
        self._write(data, offset)
        return offset

    def _write(self, data: bytes | bytearray, offset: int) -> None:
        remaining = memoryview(data)
        while remaining:
            written = os.pwrite(self._file, remaining, offset)
            remaining, offset = remaining[written:], offset + written


def directory_fields(
    level: TiffLevel, layout: TileLayout, template: Sequence[Field], *, is_overview: bool, big: bool
) -> list[Field]:
    """The directory of the image, its mask or an overview: the template's fields, and those of the level itself."""
    rows, cols = level.shape_yx
    kind, typecode = (FieldType.LONG8, "Q") if big else (FieldType.LONG, "I")
    fields = [item for item in template if not (is_overview and item.code in _MAIN_IMAGE_ONLY)]
    fields += [
        field(TagCode.WIDTH, FieldType.LONG, cols),
        field(TagCode.LENGTH, FieldType.LONG, rows),
        field(TagCode.TILE_WIDTH, FieldType.SHORT, layout.tile_yx[1]),
        field(TagCode.TILE_LENGTH, FieldType.SHORT, layout.tile_yx[0]),
        Field(TagCode.TILE_OFFSETS, kind, array(typecode, level.offsets).tobytes()),
        Field(TagCode.TILE_BYTE_COUNTS, FieldType.LONG, array("I", level.byte_counts).tobytes()),
    ]
    subfile = (_REDUCED_IMAGE if is_overview else 0) | (_MASK if layout.dtype == np.bool_ else 0)
    if subfile:
        fields.append(field(TagCode.SUBFILE_TYPE, FieldType.LONG, subfile))
    return fields
