"""Reading a raster and writing it once, tiled and with the COG's compression: align_copy.py SOURCE TARGET."""

from __future__ import annotations

import json
import sys
import time

import rasterio
from rasterio.windows import Window

STEP_PX = 1024


def main() -> None:
    source_path, target_path = sys.argv[1:]
    wall, cpu = time.perf_counter(), time.process_time()
    with rasterio.Env(GDAL_CACHEMAX=64), rasterio.open(source_path, num_threads=2) as source:
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
    print(json.dumps({"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}))


main()
