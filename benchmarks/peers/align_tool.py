"""The whole tool, as a worker's child runs it: align_tool.py SOURCE REFERENCE FOLDER."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from benchmarks.peers.align_clock import peak_mib

from aerotask.sdk.run import Run
from aerotask.tools.align_raster import AlignRaster, AlignRasterParams

TOOL = AlignRaster()


def main() -> None:
    source, reference, folder = map(Path, sys.argv[1:])
    TOOL.preload()
    params = {"sourcePath": "source.tif", "referencePath": "reference.tif", "outputPath": "aligned.tif"}
    inputs = {"source.tif": source, "reference.tif": reference}
    run = Run(inputs=inputs, workdir=folder, threads=2, emit=lambda _event: None)
    wall, cpu = time.perf_counter(), time.process_time()
    TOOL.run(AlignRasterParams.model_validate_json(json.dumps(params)), run)
    took = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
    print(json.dumps({**took, "peak_mib": peak_mib(), "result": run.changes().result}))


main()
