"""2,000 mutated GeoTIFFs through raster-export, in children as the worker forks them: no reader dies."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin
from tests.worker.mutations import mutants

from aerotask.sandbox.spawner import clean_environment

MANY = 2000
SEED = 20261124
# For all of them; one that hangs would take it all. Generous, since the machine may be busy.
WITHIN_S = 500

CHILD = """
import json, sys
from collections import Counter
from pathlib import Path

from tests.worker.mutations import mutants

from aerotask.domain.errors import InvalidInput, TaskFailed
from aerotask.media.raster import describe
from aerotask.sdk.testing import ToolBench
from aerotask.tools.raster_export import RasterExport

def index(path):
    try:
        return "geoRaster", describe(path).profile.to_properties()
    except InvalidInput:
        return "generic", {}

seeds, dataset, workdir = map(Path, sys.argv[1:4])
bench, tool = ToolBench(dataset, workdir, index, threads=1), RasterExport()
outcomes = Counter()
for number, content in mutants(seeds, int(sys.argv[4]), int(sys.argv[5])):
    (dataset / "a.tif").write_bytes(content)
    print(number, file=sys.stderr, flush=True)
    try:
        params = {"path": "a.tif", "formula": "b1"}
        if bench.check(tool, params).estimated_output_bytes > 4 * 2**20:
            raise InvalidInput("as the quota for outputs would")
        bench.run(tool, params)
        outcomes["exported"] += 1
    except (InvalidInput, TaskFailed) as refused:
        outcomes["refused"] += 1
    for made in workdir.iterdir():
        made.unlink()
print(json.dumps(outcomes))
"""


def write_seeds(folder: Path) -> None:
    """Small rasters of every layout: stripes and tiles, compressions, predictors, data types, masks, BigTIFF."""
    chance = np.random.default_rng(1)
    layouts: dict[str, dict[str, object]] = {
        "plain": {"dtype": "uint8", "count": 1},
        "deflate": {"dtype": "uint16", "count": 2, "compress": "deflate", "predictor": 2, "tiled": True},
        "lzw": {"dtype": "int16", "count": 1, "compress": "lzw", "nodata": -1},
        "float": {"dtype": "float32", "count": 1, "compress": "deflate", "predictor": 3, "tiled": True},
        "zstd": {"dtype": "uint16", "count": 3, "compress": "zstd", "interleave": "band"},
        "big": {"dtype": "uint8", "count": 4, "BIGTIFF": "YES", "photometric": "RGB", "alpha": "YES"},
        "jpeg": {"dtype": "uint8", "count": 3, "compress": "jpeg", "tiled": True},
        "packbits": {"dtype": "uint8", "count": 1, "compress": "packbits"},
    }
    for name, layout in layouts.items():
        tiling = {"blockxsize": 16, "blockysize": 16} if layout.get("tiled") else {}
        with rasterio.open(
            folder / f"{name}.tif",
            "w",
            driver="GTiff",
            width=40,
            height=30,
            crs="EPSG:32632",
            transform=from_origin(500000, 5000000, 1, 1),
            **layout,
            **tiling,
        ) as made:
            count = int(str(layout["count"]))
            made.write(chance.integers(0, 99, (count, 30, 40)).astype(str(layout["dtype"])))


@pytest.mark.timeout(WITHIN_S + 60)
def test_two_thousand_mutated_rasters_kill_no_reader(tmp_path: Path) -> None:
    seeds, dataset, workdir = (tmp_path / name for name in ("seeds", "dataset", "work"))
    for folder in (seeds, dataset, workdir):
        folder.mkdir()
    write_seeds(seeds)
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(seeds), str(dataset), str(workdir), str(SEED), str(MANY)],
        env={**clean_environment(), "PYTHONPATH": os.pathsep.join([str(root), *sys.path])},
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    last = done.stderr.strip().splitlines()[-20:]
    assert done.returncode == 0, f"status {done.returncode} with seed {SEED}; the last: {last}"
    outcomes = json.loads(done.stdout)
    assert outcomes["exported"] + outcomes["refused"] == MANY
    assert min(outcomes["exported"], outcomes["refused"]) > MANY / 20


def test_mutants_are_the_same_for_the_same_seed(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(random.Random(1).randbytes(500))
    assert list(mutants(tmp_path, 7, 50)) == list(mutants(tmp_path, 7, 50))
    assert len({content for _, content in mutants(tmp_path, 7, 50)}) > 40
