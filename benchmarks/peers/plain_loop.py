"""Straightforward loop over blocks with rasterio and numpy: plain_loop.py SOURCE TARGET."""

from __future__ import annotations

import sys

import numpy as np
import rasterio
from benchmarks.peers.clock import DEFLATE_LEVEL, NIR, RED, STOPS, TILE_PX, Clock


def colour_table() -> np.ndarray:
    stops = np.array([[int(stop[i : i + 2], 16) for i in (0, 2, 4)] for stop in STOPS], float)
    at = np.arange(256) / 255 * (len(stops) - 1)
    table = np.zeros((256, 4), np.uint8)
    for channel in range(3):
        joined = np.interp(at, np.arange(len(stops)), stops[:, channel])
        table[:, channel] = np.round(joined, 9).astype(np.uint8)
    table[:, 3] = 255
    return table


def main() -> None:
    table = colour_table()
    clock = Clock()
    with clock.phase("export"), rasterio.open(sys.argv[1]) as source:
        options = {
            "driver": "GTiff",
            "width": source.width,
            "height": source.height,
            "count": 4,
            "dtype": "uint8",
            "crs": source.crs,
            "transform": source.transform,
            "tiled": True,
            "blockxsize": TILE_PX,
            "blockysize": TILE_PX,
            "compress": "deflate",
            "zlevel": DEFLATE_LEVEL,
            "interleave": "pixel",
            "photometric": "RGB",
            "alpha": "UNSPECIFIED",
            "bigtiff": "IF_SAFER",
        }
        with rasterio.open(sys.argv[2], "w", **options) as target, np.errstate(all="ignore"):
            for _, window in source.block_windows(1):
                red, nir = source.read((RED, NIR), window=window)
                empty = (red == source.nodata) | (nir == source.nodata)
                red, nir = red.astype(np.float32), nir.astype(np.float32)
                ndvi = (nir - red) / (nir + red)
                empty |= np.abs(nir + red) < 1e-10
                scaled = np.clip((ndvi - np.float32(-1)) / np.float32(2), 0, 1) * np.float32(255)
                rgba = table[np.where(empty, 0, scaled).astype(np.uint8)]
                rgba[empty] = 0
                target.write(rgba.transpose(2, 0, 1), window=window)
    clock.report()


main()
