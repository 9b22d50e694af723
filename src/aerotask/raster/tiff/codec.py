"""Tile codec: DEFLATE in a zlib stream, with a predictor for samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import deflate
import numpy as np
from numpy.typing import NDArray

Tile = NDArray[Any]

NO_PREDICTOR, INTEGER_PREDICTOR, FLOAT_PREDICTOR = 1, 2, 3

DEFLATE_LEVEL = 4
"""Nearly the size of level 6 at a third of its time, measured on colour-mapped orthophotos."""


@dataclass(frozen=True, slots=True)
class TileLayout:
    """Memory layout of a tile: `shape` is (rows, cols), or (rows, cols, samples).

    RGBA is one `uint32` per pixel whose bytes in memory are red, green, blue and alpha. `blank` stands for
    "no value". Layouts with samples are measured values, which predictors make smaller; the others are
    colours, which they make larger.
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


def encode(tile: Tile, *, level: int) -> bytearray:
    """The tile's bytes, compressed."""
    compressed: bytearray = deflate.zlib_compress(_predicted(tile), level)
    return compressed


def decode(data: bytes | bytearray, layout: TileLayout) -> Tile:
    """The tile that `encode` compressed."""
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
    if tile.ndim < 3:
        return tile
    # Predictor 2 (TIFF 6.0, section 14): each sample minus the same band's to its left, wrapping around.
    differences = np.empty_like(tile)
    differences[:, 0] = tile[:, 0]
    np.subtract(tile[:, 1:], tile[:, :-1], out=differences[:, 1:])
    return differences


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
