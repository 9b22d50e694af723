"""Our merge: merge_ours.py TARGET THREADS BAND BAND …."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.peers.clock import DEFLATE_LEVEL, TILE_PX, Clock

from aerotask.raster.merge.plan import plan_merge
from aerotask.raster.merge.run import read_source_band
from aerotask.raster.merge.write import MergeWriteOptions, merge_bands


def main() -> None:
    target, threads, bands = Path(sys.argv[1]), int(sys.argv[2]), list(map(Path, sys.argv[3:]))
    writing = MergeWriteOptions(threads=threads, tile_px=TILE_PX, deflate_level=DEFLATE_LEVEL)
    clock = Clock()
    with clock.phase("merge"):
        plan = plan_merge([read_source_band(path.name, path) for path in bands])
        merge_bands(plan, target, writing=writing, on_stage=lambda _stage, _fraction: None)
    clock.report()


main()
