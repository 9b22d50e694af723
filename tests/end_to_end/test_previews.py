"""Previews of a tool's result, validations, and tiles from built COGs."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image
from tests.raster.rasters import write_raster
from tests.support.world import Dataset, World
from tests.tiles.images import pixels_of
from tests.tiles.maps import AT, WHITE, halves, on_tile

ALIGN = {"sourcePath": "2026.tif", "referencePath": "2025.tif", "outputPath": "aligned.tif"}
MERGE = {"paths": ["red.tif", "nir.tif"], "outputPath": "merged.tif"}


@pytest.fixture
def dataset(world: World) -> Dataset:
    return world.dataset()


@pytest.fixture
def surveys(dataset: Dataset, tmp_path: Path) -> Dataset:
    """Two rasters of 200 × 120 pixels in the same place."""
    random = np.random.default_rng(7)
    for name in ("2025", "2026", "red", "nir"):
        pixels = random.integers(1, 60000, (1, 120, 200)).astype(np.uint16)
        dataset.upload(f"{name}.tif", write_raster(tmp_path / f"{name}.tif", pixels, nodata=0))
    return dataset


@pytest.mark.parametrize(
    ("tool", "params"), [("align", ALIGN), ("tools/align-raster", ALIGN), ("merge-multispectral", MERGE)]
)
def test_a_preview_shows_the_result_and_creates_no_task(
    surveys: Dataset, tool: str, params: dict[str, Any]
) -> None:
    answer = surveys.client.post(f"{surveys.address}/{tool}/preview", params={"size": 100}, json=params)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/webp")
    with Image.open(io.BytesIO(answer.content)) as picture:
        assert max(picture.size) == 100
        assert np.unique(np.asarray(picture.convert("L"))).size > 10
    assert surveys.client.get(f"{surveys.address}/tasks").json() == []


@pytest.mark.parametrize(("tool", "params"), [("align", ALIGN), ("merge-multispectral", MERGE)])
def test_a_validation_reports_the_errors_of_a_submit(
    surveys: Dataset, tool: str, params: dict[str, Any]
) -> None:
    address = f"{surveys.address}/{tool}/validate"
    assert surveys.client.post(address, json=params).json()["ok"] is True
    refused = surveys.client.post(address, json=params | {"outputPath": ".ddb/x.tif"})
    assert (refused.status_code, refused.json()["ok"]) == (200, False)


def test_tiles_are_rendered_from_the_built_cog(dataset: Dataset, tmp_path: Path) -> None:
    raster = on_tile(tmp_path / "a.tif", halves(5, 5))
    dataset.upload("a.tif", raster)
    address = f"{dataset.address}/tiles/{AT.z}/{AT.x}/{AT.y}.png"
    style = {"path": "a.tif", "rescale": "-1,1"}
    before = dataset.client.get(address, params=style)
    assert dataset.run("build", {"path": "a.tif"})["state"] == "Succeeded"
    after = dataset.client.get(address, params=style)
    assert (before.status_code, after.status_code) == (200, 200)
    assert before.headers["etag"] != after.headers["etag"]
    assert pixels_of(after.content)[128, 128].tolist() == WHITE
    with rasterio.open(raster) as source:
        assert source.read(1)[128, 128] == 5
