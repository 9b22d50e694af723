"""COG layout: the tiles of a `TiledTiff` as a cloud-optimised GeoTIFF, directories first, overviews before the image.

The compressed tiles are copied as they are; a mask's tile follows that of the image. The layout is the one that GDAL documents for its COG driver
(https://gdal.org/en/stable/drivers/raster/cog.html), its ghost area included, so that GDAL takes it for its own.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from pathlib import Path
from typing import BinaryIO

import numpy as np

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
from aerotask.raster.tiff.writer import MASK_FIELDS, TiffLevel, TiledTiff, directory_fields


def _ghost(*, has_mask: bool) -> bytes:
    content = (
        b"LAYOUT=IFDS_BEFORE_DATA\nBLOCK_ORDER=ROW_MAJOR\nBLOCK_LEADER=SIZE_AS_UINT4\n"
        b"BLOCK_TRAILER=LAST_4_BYTES_REPEATED\n"
        + (b"MASK_INTERLEAVED_WITH_IMAGERY=YES\n" if has_mask else b"")
        + b"KNOWN_INCOMPATIBLE_EDITION=NO\n "
    )
    return b"GDAL_STRUCTURAL_METADATA_SIZE=%06d bytes\n" % len(content) + content


GHOST = _ghost(has_mask=False)
"""Ghost area: GDAL's description of the layout, between the header and the first directory."""
GHOST_WITH_MASK = _ghost(has_mask=True)

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
    target: Path, layout: TileLayout, *, deflate_level: int = DEFLATE_LEVEL, with_mask: bool = False
) -> Iterator[TiledTiff]:
    """The tiles of the COG that will be at `target`, in a file beside it (`.tiles`) that is removed at the end.

    Those of the mask, if it has one, are in a second file (`.mask`).
    """
    tiles, mask_tiles = (target.with_name(target.name + suffix) for suffix in (".tiles", ".mask"))
    # A killed attempt may have left them.
    _remove(tiles, mask_tiles)
    try:
        with ExitStack() as stack:
            mask = None
            if with_mask:
                of_mask = TileLayout(layout.tile_yx, np.dtype(np.bool_), 0)
                mask = stack.enter_context(TiledTiff(mask_tiles, of_mask, deflate_level=deflate_level))
            yield stack.enter_context(TiledTiff(tiles, layout, deflate_level=deflate_level, mask=mask))
    finally:
        _remove(tiles, mask_tiles)


def _remove(*files: Path) -> None:
    for file in files:
        file.unlink(missing_ok=True)


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
    parts = _parts(tiff, image.fields)
    masks = _parts(tiff.mask, MASK_FIELDS) if tiff.mask else []
    every = [*parts, *masks]
    tiles = sum(len(part.level.offsets) for part in every)
    data_bytes = sum(sum(part.level.byte_counts) for part in every)
    field_bytes = sum(len(item.data) for item in image.fields)
    big = data_bytes + tiles * _BYTES_PER_TILE + field_bytes + _HEADROOM_BYTES > classic_limit_bytes
    # The order that GDAL documents: the image, its mask, the overviews, those of the mask.
    head = _FileHead([*parts[:1], *masks[:1], *parts[1:], *masks[1:]], image, big=big, has_mask=bool(masks))
    size_bytes = _place(parts, masks, start=head.end)
    with target.open("xb", buffering=_BUFFER_BYTES) as file:
        file.write(head.packed())
        _copy_tiles(parts, masks, file, on_progress)
    return size_bytes


class _CogPart:
    """A level of the image or of its mask: one directory, with the offsets of its tiles in the COG."""

    def __init__(
        self, tiff: TiledTiff, level: TiffLevel, template: Sequence[Field], *, is_overview: bool
    ) -> None:
        self.tiff, self.level = tiff, level
        self.offsets = array("Q", bytes(8 * len(level.offsets)))
        self._template, self._is_overview = template, is_overview

    def fields(self, *, big: bool) -> list[Field]:
        """The fields of the directory."""
        kind, typecode = (FieldType.LONG8, "Q") if big else (FieldType.LONG, "I")
        fields = directory_fields(
            self.level, self.tiff.layout, self._template, is_overview=self._is_overview, big=big
        )
        placed = Field(TagCode.TILE_OFFSETS, kind, array(typecode, self.offsets).tobytes())
        return [item for item in fields if item.code != TagCode.TILE_OFFSETS] + [placed]


def _parts(tiff: TiledTiff, template: Sequence[Field]) -> list[_CogPart]:
    return [
        _CogPart(tiff, level, template, is_overview=number > 0) for number, level in enumerate(tiff.levels)
    ]


class _FileHead:
    """Everything before the tiles; its length doesn't depend on their offsets."""

    def __init__(self, parts: Sequence[_CogPart], image: ImageFields, *, big: bool, has_mask: bool) -> None:
        self._parts, self._image, self._big = parts, image, big
        self._ghost = GHOST_WITH_MASK if has_mask else GHOST
        self._header_bytes = HEADER_BYTES if big else _CLASSIC_HEADER_BYTES
        self.end = len(self.packed())

    def packed(self) -> bytes:
        """The bytes for the tile offsets that the parts have now."""
        start = _aligned(self._header_bytes + len(self._ghost))
        header = pack_header(big=self._big, first_directory=start)[: self._header_bytes]
        subs_at = start + _aligned(len(self._directories(dict.fromkeys(self._image.sub_directories, 0))))
        pointers, subs = self._pack_subs(subs_at)
        directories = self._directories(pointers)
        head = (header + self._ghost).ljust(start, b"\0") + directories
        return (head.ljust(subs_at, b"\0") + subs).ljust(_aligned(subs_at + len(subs)), b"\0")

    def _pack_subs(self, start: int) -> tuple[dict[int, int], bytes]:
        """The offset of each sub-directory, and their bytes from `start` on."""
        pointers, content = {}, b""
        for code, fields in self._image.sub_directories.items():
            pointers[code] = start + len(content)
            content += pack_directories([fields], start=pointers[code], big=self._big)
            content = content.ljust(_aligned(len(content)), b"\0")
        return pointers, content

    def _directories(self, pointers: Mapping[int, int]) -> bytes:
        kind = FieldType.LONG8 if self._big else FieldType.LONG
        links = [field(code, kind, at) for code, at in pointers.items()]
        directories = [part.fields(big=self._big) for part in self._parts]
        directories[0] += links
        start = _aligned(self._header_bytes + len(self._ghost))
        return pack_directories(directories, start=start, big=self._big)


def _place(parts: Sequence[_CogPart], masks: Sequence[_CogPart], *, start: int) -> int:
    """Set the tiles' offsets and return the end of the last tile."""
    at = start
    for part, number in _in_file_order(parts, masks):
        part.offsets[number] = at + _LEADER_BYTES
        at += _LEADER_BYTES + part.level.byte_counts[number] + _TRAILER_BYTES
    return at


def _copy_tiles(
    parts: Sequence[_CogPart], masks: Sequence[_CogPart], file: BinaryIO, on_progress: Callable[[float], None]
) -> None:
    total = sum(len(part.offsets) for part in (*parts, *masks))
    for done, (part, number) in enumerate(_in_file_order(parts, masks), start=1):
        data = part.tiff.get_compressed(part.level, number)
        file.write(struct.pack("<I", len(data)))
        file.write(data)
        file.write(data[-_TRAILER_BYTES:])
        on_progress(done / total)


def _in_file_order(parts: Sequence[_CogPart], masks: Sequence[_CogPart]) -> Iterator[tuple[_CogPart, int]]:
    """Each tile by its part and number: the smallest overview first, a mask's tile behind that of the image."""
    for level in reversed(range(len(parts))):
        for number in range(len(parts[level].offsets)):
            yield parts[level], number
            if masks:
                yield masks[level], number


def _aligned(offset: int) -> int:
    return offset + -offset % 16
