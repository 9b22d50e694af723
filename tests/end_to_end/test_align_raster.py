"""align-raster on a running stack: its outputs, cancel, and conflicting tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from tests.raster.alignment.scenes import METRES, ORIGIN, canvas, cut, shifted
from tests.raster.rasters import write_raster
from tests.support.world import Dataset, World, eventually

from aerotask.stack.waiting import await_condition

PARAMS = {"sourcePath": "source.tif", "referencePath": "reference.tif", "outputPath": "out/aligned.tif"}


def upload_pair(dataset: Dataset, folder: Path) -> None:
    scene = canvas(31)
    dataset.upload("reference.tif", write_raster(folder / "r.tif", cut(scene, left=0, top=0), nodata=0))
    dataset.upload("source.tif", write_raster(folder / "s.tif", shifted(scene, right=5, down=-3), nodata=0))


def content(dataset: Dataset, path: str) -> bytes:
    return dataset.client.get(f"{dataset.address}/obj/{path}").raise_for_status().content


def processing(task: dict[str, Any]) -> tuple[str, str]:
    """Start and end of the task's run."""
    began = next(event["at"] for event in task["history"] if event["to"] == "Processing")
    return str(began), str(task["history"][-1]["at"])


def test_an_aligned_raster_becomes_an_entry(world: World, tmp_path: Path) -> None:
    dataset = world.dataset()
    upload_pair(dataset, tmp_path)
    task = dataset.run("align-raster", PARAMS)
    assert (task["state"], task["artifact"]) == ("Succeeded", None)
    assert [round(task["result"][name], 1) for name in ("dxPx", "dyPx", "scale")] == [-5, 3, 1]
    assert [output["path"] for output in task["outputs"]] == ["out/aligned.tif"]
    eventually(lambda: dataset.entry("out/aligned.tif")["indexed"])
    assert dataset.entry("out/aligned.tif")["type"] == "geoRaster"
    (tmp_path / "aligned.tif").write_bytes(content(dataset, "out/aligned.tif"))
    with rasterio.open(tmp_path / "aligned.tif") as aligned:
        moved = (aligned.transform.c - ORIGIN[0]) / METRES, (ORIGIN[1] - aligned.transform.f) / METRES
    assert [round(value) for value in moved] == [-5, 3]


def test_two_tasks_that_write_the_same_entry_run_one_after_the_other(world: World, tmp_path: Path) -> None:
    dataset = world.dataset()
    upload_pair(dataset, tmp_path)
    tasks = [
        dataset.submit("align-raster", {**PARAMS, "mode": mode, "overwrite": True})
        for mode in ("similarity", "translation")
    ]
    ended = [dataset.wait(task_id, timeout_s=120) for task_id in tasks]
    assert [task["state"] for task in ended] == ["Succeeded"] * 2
    first, second = sorted(map(processing, ended))
    assert first[1] <= second[0]


def test_a_cancel_in_the_middle_of_the_warp_leaves_the_old_output(world: World, tmp_path: Path) -> None:
    dataset = world.dataset()
    # GDAL needs seconds to compress noise, so the cancel arrives while the output is written.
    noise = np.random.default_rng(8).integers(1, 65535, (3, 2600, 2600)).astype(np.uint16)
    dataset.upload("reference.tif", write_raster(tmp_path / "r.tif", noise[:, :-4, :-6], nodata=0))
    dataset.upload("source.tif", write_raster(tmp_path / "s.tif", noise[:, 4:, 6:], nodata=0))
    dataset.upload("out/aligned.tif", b"the old content", indexed=False)
    task_id = dataset.submit("align-raster", PARAMS | {"overwrite": True})
    assert await_condition(
        lambda: any("patches agree" in line for line in dataset.log(task_id)), timeout_s=120
    ), dataset.status(task_id)

    dataset.client.delete(f"{dataset.address}/tasks/{task_id}").raise_for_status()

    task = dataset.wait(task_id)
    assert task["state"] == "Deleted"
    assert "Succeeded" not in [event["to"] for event in task["history"]]
    assert content(dataset, "out/aligned.tif") == b"the old content"
    assert dataset.paths() == ["out", "out/aligned.tif", "reference.tif", "source.tif"]


def test_rasters_that_cannot_be_aligned_are_rejected_at_submit(world: World, tmp_path: Path) -> None:
    dataset = world.dataset()
    upload_pair(dataset, tmp_path)
    far = write_raster(tmp_path / "far.tif", cut(canvas(31), left=0, top=0), crs="EPSG:32633")
    dataset.upload("far.tif", far)
    dataset.upload("notes.txt", b"no raster")
    refusals = {
        "no-overlap": {"referencePath": "far.tif"},
        "not-a-raster": {"referencePath": "notes.txt"},
        "no-such-entry": {"referencePath": "absent.tif"},
        "output-is-input": {"outputPath": "source.tif"},
        "invalid-params": {"outputPath": ".ddb/aligned.tif"},
    }
    for code, params in refusals.items():
        answer = dataset.try_submit("align-raster", PARAMS | params)
        assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert dataset.client.get(f"{dataset.address}/tasks").headers["x-total-count"] == "0"
