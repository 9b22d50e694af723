"""rio-cogeo over a VRT that gdalbuildvrt made: merge_rio_cogeo.py TARGET VRT."""

from __future__ import annotations

import sys

from benchmarks.peers.clock import DEFLATE_LEVEL, TILE_PX, Clock
from rio_cogeo.cogeo import cog_translate
from rio_cogeo.profiles import cog_profiles


def main() -> None:
    target, source = sys.argv[1], sys.argv[2]
    profile = dict(cog_profiles["deflate"]) | {
        "blockxsize": TILE_PX,
        "blockysize": TILE_PX,
        "predictor": 2,
        "zlevel": DEFLATE_LEVEL,
        "num_threads": "ALL_CPUS",
    }
    config = {"GDAL_NUM_THREADS": "ALL_CPUS", "GDAL_TIFF_OVR_BLOCKSIZE": str(TILE_PX)}
    clock = Clock()
    with clock.phase("merge"):
        cog_translate(
            source,
            target,
            profile,
            config=config,
            overview_resampling="average",
            in_memory=False,
            use_cog_driver=False,
            quiet=True,
        )
    clock.report()


main()
