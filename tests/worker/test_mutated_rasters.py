"""Mutated GeoTIFFs through raster-export: 2,000 in one process, and some in the children of a worker."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin
from tests.worker.mutations import mutants

from aerotask.domain.errors import InvalidInput
from aerotask.sandbox.protocol import Message
from aerotask.sandbox.spawner import Spawner, clean_environment
from aerotask.sdk.testing import ToolHarness
from aerotask.tools.raster_export import RasterExport
from aerotask.worker import tool_child
from aerotask.worker.indexing.index_batch import MEMORY_BYTES
from aerotask.worker.jobs import IndexJob, ToolInputs, ToolJob, ToolNeeds
from aerotask.worker.supervise import ChildEnd, supervise

MANY = 2000
MANY_IN_CHILDREN = 240
SEED = 20261124
# For all of them; one that hangs would use it up. Generous, since the machine may be busy.
WITHIN_S = 500
ONE_WITHIN_S = 120
MAX_OUTPUT_BYTES = 4 * 2**20
REFUSALS = frozenset(
    {"damaged-raster", "not-a-raster", "raster-too-large", "unreadable-raster", "unsupported-layout"}
)

CHILD = """
import json, sys
from collections import Counter
from pathlib import Path

from tests.worker.mutations import mutants

from aerotask.domain.errors import InvalidInput, TaskFailed
from aerotask.metadata.raster import extract_raster
from aerotask.sdk.testing import ToolHarness
from aerotask.tools.raster_export import RasterExport

def index(path):
    try:
        return "geoRaster", extract_raster(path).profile.to_properties()
    except InvalidInput:
        return "generic", {}

seeds, dataset, workdir = map(Path, sys.argv[1:4])
harness, tool = ToolHarness(dataset, workdir, index, threads=1), RasterExport()
outcomes = Counter()
for number, content in mutants(seeds, int(sys.argv[4]), int(sys.argv[5])):
    (dataset / "a.tif").write_bytes(content)
    print(number, file=sys.stderr, flush=True)
    try:
        params = {"path": "a.tif", "formula": "b1"}
        if harness.check(tool, params).estimated_output_bytes > 4 * 2**20:
            raise InvalidInput("as the quota for outputs would")
        harness.run(tool, params)
        outcomes["exported"] += 1
    except (InvalidInput, TaskFailed) as refused:
        outcomes["refused"] += 1
    for made in workdir.iterdir():
        made.unlink()
print(json.dumps(outcomes))
"""


def write_seeds(folder: Path) -> None:
    """Small rasters of every layout: strips and tiles, compressions, predictors, data types, masks, BigTIFF."""
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
def test_two_thousand_mutated_rasters_crash_no_process(tmp_path: Path) -> None:
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


@pytest.mark.timeout(WITHIN_S + 60)
async def test_mutated_rasters_are_exported_or_refused_in_confined_and_limited_children(
    tmp_path: Path,
) -> None:
    files = written(tmp_path)
    spawner = Spawner(tool_child.PROGRAM)
    try:
        found = await indexed(spawner, files)
        two_at_once = asyncio.Semaphore(2)

        async def export_one(number: str) -> str:
            async with two_at_once:
                return await export(spawner, files[number], tmp_path / "out" / number, *found[number])

        outcomes = Counter(await asyncio.gather(*map(export_one, files)))
    finally:
        await spawner.close()
    assert set(outcomes) == {"exported", "refused"}
    assert min(outcomes.values()) > MANY_IN_CHILDREN / 20


def written(folder: Path) -> dict[str, Path]:
    """Mutants by their number, each in its own folder, with an empty folder for its output."""
    (folder / "seeds").mkdir()
    write_seeds(folder / "seeds")
    files = {}
    for number, content in mutants(folder / "seeds", SEED + 1, MANY_IN_CHILDREN):
        files[str(number)] = folder / "in" / str(number) / "a.tif"
        files[str(number)].parent.mkdir(parents=True)
        files[str(number)].write_bytes(content)
        (folder / "out" / str(number)).mkdir(parents=True)
    return files


async def indexed(spawner: Spawner, files: dict[str, Path]) -> dict[str, tuple[str, dict[str, Any]]]:
    """Each file's type and properties, as extracted by a child of the indexer."""
    found = {}

    def on_event(event: Message) -> None:
        if event.kind == "described":
            found[event.body["id"]] = event.body["type"], event.body["properties"]

    pairs = tuple((number, str(file)) for number, file in files.items())
    folder = str(next(iter(files.values())).parents[1])
    ended = await supervise(
        spawner,
        IndexJob(pairs, folder, MEMORY_BYTES),
        on_event=on_event,
        stop=asyncio.Event(),
        cancel_grace_s=1,
        timeout_s=WITHIN_S,
    )
    assert (ended.how, set(found)) == (ChildEnd.DONE, set(files))
    return found


async def export(spawner: Spawner, file: Path, out: Path, type_: str, properties: dict[str, Any]) -> str:
    """Outcome of a task for the file with this metadata; checked, planned and run as usual."""
    tool, params = RasterExport(), {"path": "a.tif", "formula": "b1"}
    harness = ToolHarness(file.parent, out, lambda _: (type_, properties))
    try:
        plan = harness.check(tool, params)
    except InvalidInput:
        return "refused"
    if plan.estimated_output_bytes > MAX_OUTPUT_BYTES:
        return "refused"
    job = ToolJob(
        tool_id=tool.id,
        tool_version=tool.version,
        params=params,
        workdir=str(out),
        threads=1,
        memory_bytes=plan.memory_bytes,
        max_file_bytes=2 * MAX_OUTPUT_BYTES,
        reads=str(file.parent),
    )

    async def inputs_for(_needs: ToolNeeds) -> ToolInputs:
        return ToolInputs({"a.tif": str(file)})

    ended = await supervise(
        spawner,
        job,
        inputs_for=inputs_for,
        on_event=lambda _: None,
        stop=asyncio.Event(),
        cancel_grace_s=1,
        timeout_s=ONE_WITHIN_S,
    )
    if ended.how is ChildEnd.DONE:
        return "exported"
    code = ended.last.body["code"] if ended.last else ended.detail
    # Anything else is a bug of ours, or a child that died; the test then shows its name.
    return "refused" if ended.how is ChildEnd.FAILED and code in REFUSALS else f"{ended.how.name} {code}"


def test_mutants_are_the_same_for_the_same_seed(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(random.Random(1).randbytes(500))
    assert list(mutants(tmp_path, 7, 50)) == list(mutants(tmp_path, 7, 50))
    assert len({content for _, content in mutants(tmp_path, 7, 50)}) > 40
