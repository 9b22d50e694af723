"""Our export pipeline: ours.py SOURCE TARGET THREADS [overviews]."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.peers.clock import DEFLATE_LEVEL, TILE_PX, Clock

from aerotask.raster.export.options import DisplayOptions
from aerotask.raster.export.plan import make_plan
from aerotask.raster.export.write import ExportWriteOptions, export_image
from aerotask.raster.header import read_profile
from aerotask.raster.io import open_raster
from aerotask.raster.pixels import SourceFile


def main() -> None:
    source, target, threads = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    writing = ExportWriteOptions(
        threads=threads, tile_px=TILE_PX, deflate_level=DEFLATE_LEVEL, overviews="overviews" in sys.argv[4:]
    )
    clock = Clock()
    with clock.phase("export"):
        with open_raster(source) as opened:
            profile = read_profile(opened)
        plan = make_plan(DisplayOptions(formula="NDVI", bandFilter="RGBN").parsed(), profile)
        file = SourceFile(source, profile)
        export_image(file, plan, target, writing=writing, on_progress=lambda _stage, _fraction: None)
    clock.report()


main()
