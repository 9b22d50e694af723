"""Rasters that cover exactly one map tile, and the tile's index."""

from pathlib import Path
from typing import Any

import numpy as np
from rasterio.transform import from_bounds
from tests.raster.rasters import Pixels, write_raster

from aerotask.tiles.tile_matrix import TileIndex

AT = TileIndex(18, 137_000, 90_000)
RED, GREEN, NOTHING = [0xD7, 0x30, 0x27, 255], [0x1A, 0x98, 0x50, 255], [0, 0, 0, 0]
"""Both ends of the colormap rdylgn, which formulas have, and a transparent pixel."""
BLACK, WHITE = [0, 0, 0, 255], [255, 255, 255, 255]
"""Both ends of the greys of a single band."""


def on_tile(path: Path, pixels: Pixels, *, tile: TileIndex = AT, **options: Any) -> Path:
    """A raster that covers exactly one tile of the map."""
    grid = from_bounds(*tile.bounds_m(), pixels.shape[2], pixels.shape[1])
    return write_raster(path, pixels, crs="EPSG:3857", transform=grid, **options)


def halves(left: float, right: float, *, bands: int = 1, dtype: str = "float32") -> Pixels:
    """Pixels of a tile with one value in the left half and another in the right."""
    pixels = np.full((bands, 256, 256), left, dtype)
    pixels[:, :, 128:] = right
    return pixels
