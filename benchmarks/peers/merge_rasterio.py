"""GDAL's COG driver of rasterio's wheel, over a VRT: merge_rasterio.py TARGET VRT."""

from __future__ import annotations

import sys

import rasterio
import rasterio.shutil
from benchmarks.peers.clock import DEFLATE_LEVEL, TILE_PX, Clock


def main() -> None:
    target, source = sys.argv[1], sys.argv[2]
    clock = Clock()
    with clock.phase("merge"), rasterio.Env():
        rasterio.shutil.copy(
            source,
            target,
            driver="COG",
            compress="DEFLATE",
            level=DEFLATE_LEVEL,
            predictor="YES",
            blocksize=TILE_PX,
            num_threads="ALL_CPUS",
            overview_resampling="AVERAGE",
            bigtiff="IF_SAFER",
        )
    clock.report()


main()
