"""Merging bands through the whole stack: upload, merge, index and export."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.raster.rasters import read, write_raster
from tests.support.world import Dataset, World

MERGE: dict[str, Any] = {"paths": ["red.tif", "nir.tif"], "outputPath": "out/merged.tif"}


def plane(seed: int) -> Any:
    return np.random.default_rng(seed).integers(1, 60000, (1, 300, 400)).astype(np.uint16)


@pytest.fixture
def dataset(world: World, tmp_path: Path) -> Dataset:
    made = world.dataset()
    for seed, name in enumerate(("red", "nir")):
        made.upload(f"{name}.tif", write_raster(tmp_path / f"{name}.tif", plane(seed), nodata=0))
    return made


def content(dataset: Dataset, path: str) -> bytes:
    return dataset.client.get(f"{dataset.address}/obj/{path}").raise_for_status().content


def test_bands_are_merged_indexed_and_found_by_a_formula(dataset: Dataset, tmp_path: Path) -> None:
    task = dataset.run("merge-multispectral", MERGE)

    assert (task["state"], task["artifact"]) == ("Succeeded", None)
    assert [band["name"] for band in task["result"]["bands"]] == ["red", "nir"]
    assert [output["path"] for output in task["outputs"]] == ["out/merged.tif"]
    assert dataset.paths() == ["nir.tif", "out", "out/merged.tif", "red.tif"]
    (tmp_path / "back.tif").write_bytes(content(dataset, "out/merged.tif"))
    assert (read(tmp_path / "back.tif") == np.concatenate([plane(0), plane(1)])).all()

    exported = dataset.run("raster-export", {"path": "out/merged.tif", "formula": "NDVI"})
    assert exported["result"]["bands"] == {"N": 2, "R": 1}


def test_an_entry_is_replaced_only_on_request_and_only_by_a_successful_merge(
    dataset: Dataset, tmp_path: Path
) -> None:
    old = dataset.upload("out/merged.tif", b"the old content")
    refused = dataset.try_submit("merge-multispectral", MERGE)
    assert (refused.status_code, refused.json()["code"]) == (400, "output-exists")

    # The damaged file is not yet indexed, so only the run detects it.
    damaged = write_raster(tmp_path / "damaged.tif", plane(2), nodata=0, compress="deflate").read_bytes()
    dataset.upload("damaged.tif", damaged[: len(damaged) // 2], indexed=False)
    failed = dataset.run(
        "merge-multispectral", MERGE | {"paths": ["red.tif", "damaged.tif"], "overwrite": True}
    )
    assert failed["state"] == "Failed"
    assert failed["error"]["code"] in {"damaged-raster", "unreadable-raster"}
    assert content(dataset, "out/merged.tif") == b"the old content"

    task = dataset.run("merge-multispectral", MERGE | {"overwrite": True})
    assert task["state"] == "Succeeded"
    assert task["result"]["replaced"] == [{"path": "out/merged.tif", "hash": old["hash"]}]
    assert content(dataset, "out/merged.tif").startswith(b"II*\0")


def test_one_of_two_merges_to_the_same_new_path_is_rejected(dataset: Dataset) -> None:
    first = dataset.submit("merge-multispectral", MERGE)
    second = dataset.try_submit("merge-multispectral", MERGE | {"paths": ["nir.tif", "red.tif"]})

    assert dataset.wait(first)["state"] == "Succeeded"
    kept = dataset.entry("out/merged.tif")["hash"]
    if second.status_code == 202:  # submitted before the first one had ended
        ended = dataset.wait(second.json()["taskId"])
        assert (ended["state"], ended["error"]["code"]) == ("Failed", "output-exists")
    else:
        assert second.json()["code"] == "output-exists"
    assert dataset.entry("out/merged.tif")["hash"] == kept


def test_a_reader_may_not_merge(world: World, dataset: Dataset) -> None:
    reader = world.member(dataset.org, "readOnly")
    assert dataset.seen_by(reader).try_submit("merge-multispectral", MERGE).status_code == 403
