"""Tile codec: DEFLATE in a zlib stream, with a predictor for samples; masks have one bit per pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import deflate
import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

Tile = NDArray[Any]

NO_PREDICTOR, INTEGER_PREDICTOR, FLOAT_PREDICTOR = 1, 2, 3

DEFLATE_LEVEL = 4
"""Nearly the size of level 6 at a third of its time, measured on colour-mapped orthophotos."""
FAST = 0
"""Instead of a level: ISA-L for measured values, in a quarter of the time and at most some percent larger."""
_ISAL_LEVEL = 2
_HARDLY_SMALLER = 2.5
"""Ratio up to which ISA-L's result is kept: what can be made much smaller, DEFLATE makes smaller in little time."""


@dataclass(frozen=True, slots=True)
class TileLayout:
    """Memory layout of a tile: `shape` is (rows, cols), or (rows, cols, samples).

    RGBA is one `uint32` per pixel whose bytes in memory are red, green, blue and alpha. `blank` stands for
    "no value". Layouts with samples are measured values, which predictors make smaller; the others are
    computed colours, palette indices and masks (`bool`), which they make larger.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    blank: float

    @property
    def tile_yx(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.shape[0], self.shape[1]

    @property
    def predictor(self) -> int:
        """The predictor's number in TIFF: 1 none, 2 differences of whole numbers, 3 of floats."""
        if self.dtype.kind == "f":
            return FLOAT_PREDICTOR
        return NO_PREDICTOR if len(self.shape) < 3 else INTEGER_PREDICTOR

    def new_tile(self) -> Tile:
        """A tile in which every pixel is blank."""
        return np.full(self.shape, self.blank, self.dtype)


def tile_shape(
    shape_yx: tuple[int, int], *, tile_px: int, bytes_per_px: int = 0, max_bytes: int = 0
) -> tuple[int, int]:
    """Rows and columns of a tile: multiples of 16, as TIFF demands, and no larger than a small image needs.

    A tile of `tile_px` pixels along each side is halved until it fits into `max_bytes`, if there are bytes to count.
    """
    while tile_px > 16 and tile_px * tile_px * bytes_per_px > max_bytes:
        tile_px //= 2
    rows, cols = (min(tile_px, size + -size % 16) for size in shape_yx)
    return rows, cols


def encode(tile: Tile, *, level: int) -> bytes | bytearray:
    """The tile's bytes, compressed with a level of DEFLATE, or `FAST`."""
    content = np.ascontiguousarray(_predicted(tile))
    if level == FAST:
        fast = isal_zlib.compress(content, _ISAL_LEVEL)
        if len(fast) * _HARDLY_SMALLER > content.nbytes:
            return fast
    compressed: bytearray = deflate.zlib_compress(content, level or DEFLATE_LEVEL)
    return compressed


def decode(data: bytes | bytearray, layout: TileLayout) -> Tile:
    """The tile that `encode` compressed."""
    if layout.dtype == np.bool_:
        return _unpack_bits(data, layout)
    size = int(np.prod(layout.shape)) * layout.dtype.itemsize
    raw = np.frombuffer(deflate.zlib_decompress(data, size), np.uint8)
    if layout.predictor == FLOAT_PREDICTOR:
        return _integrate(raw, layout)
    pixels = raw.view(layout.dtype).reshape(layout.shape)
    if layout.predictor == NO_PREDICTOR:
        return pixels
    return np.cumsum(pixels, axis=1, dtype=layout.dtype)


def _predicted(tile: Tile) -> Tile:
    if tile.dtype.kind == "f":
        return _difference(tile)
    if tile.dtype == np.bool_:
        return np.packbits(tile, axis=1)
    if tile.ndim < 3:
        return tile
    # Predictor 2 (TIFF 6.0, section 14): each sample minus the same band's to its left, wrapping around.
    differences = np.empty_like(tile)
    differences[:, 0] = tile[:, 0]
    np.subtract(tile[:, 1:], tile[:, :-1], out=differences[:, 1:])
    return differences


def _unpack_bits(data: bytes | bytearray, layout: TileLayout) -> Tile:
    rows, cols = layout.tile_yx
    packed = np.frombuffer(deflate.zlib_decompress(data, rows * cols // 8), np.uint8)
    return np.unpackbits(packed.reshape(rows, -1), axis=1).view(np.bool_)


def _difference(tile: Tile) -> Tile:
    """Predictor 3 (Adobe Photoshop TIFF Technical Note 3): bytes by significance, then differences along the row."""
    rows, samples, item_bytes = tile.shape[0], tile.shape[2], tile.dtype.itemsize
    by_value = tile.astype(f"<f{item_bytes}", copy=False).view(np.uint8).reshape(rows, -1, item_bytes)
    planes = by_value[..., ::-1].transpose(0, 2, 1).reshape(rows, -1)
    differences = np.empty_like(planes)
    differences[:, :samples] = planes[:, :samples]
    np.subtract(planes[:, samples:], planes[:, :-samples], out=differences[:, samples:])
    return differences


def _integrate(raw: Tile, layout: TileLayout) -> Tile:
    (rows, cols, samples), item_bytes = layout.shape, layout.dtype.itemsize
    differences = raw.reshape(rows, -1, samples)
    planes = np.cumsum(differences, axis=1, dtype=np.uint8).reshape(rows, item_bytes, cols * samples)
    by_value = np.ascontiguousarray(planes.transpose(0, 2, 1)[..., ::-1])
    return by_value.view(f"<f{item_bytes}").astype(layout.dtype, copy=False).reshape(layout.shape)
