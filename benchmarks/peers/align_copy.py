"""Baseline that reads a raster and writes it once, optionally as a COG with overviews: align_copy.py SOURCE TARGET [cog]."""

from __future__ import annotations

import json
import sys
import time

import rasterio
import rasterio.shutil
from benchmarks.peers.align_clock import peak_mib
from rasterio.windows import Window

STEP_PX = 1024


def write_plain(source_path: str, target_path: str) -> None:
    with rasterio.open(source_path, num_threads=2) as source:
        options = source.profile | {
            "tiled": True,
            "blockxsize": 512,
            "blockysize": 512,
            "compress": "deflate",
            "zlevel": 4,
            "predictor": 2,
            "num_threads": 2,
            "bigtiff": "IF_SAFER",
        }
        with rasterio.open(target_path, "w", **options) as target:
            for top in range(0, source.height, STEP_PX):
                window = Window(0, top, source.width, min(STEP_PX, source.height - top))
                target.write(source.read(window=window), window=window)


def write_cog(source_path: str, target_path: str) -> None:
    options = {"compress": "deflate", "level": 4, "predictor": "YES", "num_threads": 2, "bigtiff": "IF_SAFER"}
    rasterio.shutil.copy(source_path, target_path, driver="COG", **options)


def main() -> None:
    write = write_cog if "cog" in sys.argv[3:] else write_plain
    wall, cpu = time.perf_counter(), time.process_time()
    with rasterio.Env(GDAL_CACHEMAX=64):
        write(sys.argv[1], sys.argv[2])
    took = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
    print(json.dumps({**took, "peak_mib": peak_mib()}))


main()
