"""Physical limit: GDAL decodes the needed bands, then encodes a finished result, both on all cores.

limit.py SOURCE RESULT TARGET: RESULT is a finished export whose pixels are passed to the encoder.
"""

from __future__ import annotations

import sys

import rasterio
from benchmarks.peers.clock import DEFLATE_LEVEL, NIR, RED, TILE_PX, Clock
from rasterio.windows import Window

CACHE_MB = 64


def strips(width: int, height: int) -> list[Window]:
    return [Window(0, top, width, min(TILE_PX, height - top)) for top in range(0, height, TILE_PX)]


def main() -> None:
    source_path, result_path, target_path = sys.argv[1:]
    clock = Clock()
    with rasterio.Env(GDAL_CACHEMAX=CACHE_MB, GDAL_NUM_THREADS="ALL_CPUS"):
        with clock.phase("decode"), rasterio.open(source_path) as source:
            windows = strips(source.width, source.height)
            for window in windows:
                source.read((RED, NIR), window=window)
        with rasterio.open(result_path) as result:
            ready = [result.read(window=window) for window in windows]
            options = {
                "driver": "GTiff",
                "width": result.width,
                "height": result.height,
                "count": 4,
                "dtype": "uint8",
                "tiled": True,
                "blockxsize": TILE_PX,
                "blockysize": TILE_PX,
                "compress": "deflate",
                "zlevel": DEFLATE_LEVEL,
                "num_threads": "ALL_CPUS",
                "interleave": "pixel",
                "photometric": "RGB",
                "alpha": "UNSPECIFIED",
                "crs": result.crs,
                "transform": result.transform,
                "bigtiff": "IF_SAFER",
            }
        with clock.phase("encode"), rasterio.open(target_path, "w", **options) as target:
            for window, pixels in zip(windows, ready, strict=True):
                target.write(pixels, window=window)
    clock.report()


main()
