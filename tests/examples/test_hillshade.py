"""The example package, tested as its author would test it: with the harness, then through the server."""

import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.transform import from_origin
from tests.conftest import StackFactory
from tests.support.world import World, eventually

from aerotask.metadata.extract import extract_metadata
from aerotask.sdk import InvalidInput, Tool
from aerotask.sdk.testing import ToolHarness


@pytest.fixture
def tool(plugins: Path) -> Iterator[Tool[Any]]:
    """The tool, imported from where it was installed."""
    sys.path.insert(0, str(plugins))
    try:
        from aerotask_hillshade import Hillshade  # noqa: PLC0415  only there once it is installed

        yield Hillshade()
    finally:
        sys.path.remove(str(plugins))


@pytest.fixture
def harness(tmp_path: Path) -> ToolHarness:
    dataset, workdir = tmp_path / "dataset", tmp_path / "work"
    dataset.mkdir()
    workdir.mkdir()

    def indexed(path: Path) -> tuple[str, dict[str, Any]]:
        found = extract_metadata(path)
        return found.type, dict(found.properties)

    return ToolHarness(dataset, workdir, describe=indexed)


def write_heights(path: Path, heights: np.ndarray[Any, Any], *, nodata: float | None = None) -> None:
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=heights.shape[-1],
        height=heights.shape[-2],
        count=1 if heights.ndim == 2 else heights.shape[0],
        dtype="float32",
        crs="EPSG:32632",
        transform=from_origin(500000, 5000000, 1, 1),
        nodata=nodata,
    ) as raster:
        raster.write(heights.reshape(-1, *heights.shape[-2:]).astype("float32"))


def read(path: Path) -> np.ndarray[Any, Any]:
    with rasterio.open(path) as raster:
        grey: np.ndarray[Any, Any] = raster.read(1)
        return grey


def test_flat_ground_is_lit_by_the_sine_of_the_suns_height(tool: Tool[Any], harness: ToolHarness) -> None:
    write_heights(harness.dataset / "dem.tif", np.zeros((8, 8)))
    outcome = harness.run(tool, {"path": "dem.tif", "altitudeDeg": 30.0})
    assert np.unique(read(outcome.artifact)).tolist() == [128]  # 1 + 254 · sin 30°


@pytest.mark.parametrize(("azimuth_deg", "grey"), [(270.0, 255), (90.0, 1)])
def test_a_slope_faces_the_light_or_not(
    tool: Tool[Any], harness: ToolHarness, azimuth_deg: float, grey: int
) -> None:
    write_heights(harness.dataset / "dem.tif", np.tile(np.arange(9), (9, 1)))  # rises eastwards at 45°
    outcome = harness.run(tool, {"path": "dem.tif", "azimuthDeg": azimuth_deg})
    assert read(outcome.artifact)[4, 4] == grey


def test_nodata_stays_nodata(tool: Tool[Any], harness: ToolHarness) -> None:
    heights = np.zeros((8, 8))
    heights[4, 4] = -9999
    write_heights(harness.dataset / "dem.tif", heights, nodata=-9999)
    grey = read(harness.run(tool, {"path": "dem.tif"}).artifact)
    assert grey[4, 4] == 0
    assert grey[0, 0] != 0


def test_strips_do_not_show(tool: Tool[Any], harness: ToolHarness) -> None:
    """600 rows are shaded in three strips; each must look as if the whole had been shaded at once."""
    from aerotask_hillshade import shade  # noqa: PLC0415  only there once it is installed

    heights = np.random.default_rng(1).normal(size=(600, 20)).cumsum(0).astype("float32")
    write_heights(harness.dataset / "dem.tif", heights)
    outcome = harness.run(tool, {"path": "dem.tif"})
    np.testing.assert_array_equal(read(outcome.artifact), shade(heights, (1.0, 1.0), 315.0, 45.0))
    assert [round(step.fraction, 2) for step in outcome.progress] == [0.43, 0.85, 1.0]


def test_a_dry_run_warns_of_a_low_sun(tool: Tool[Any], harness: ToolHarness) -> None:
    write_heights(harness.dataset / "dem.tif", np.zeros((8, 16)))
    low = harness.dry_run(tool, {"path": "dem.tif", "altitudeDeg": 5.0})
    assert (len(low.warnings), dict(low.summary)) == (1, {"width": 16, "height": 8})
    assert harness.dry_run(tool, {"path": "dem.tif"}).warnings == ()


def test_a_preview_is_the_shading_of_the_thinned_raster(tool: Tool[Any], harness: ToolHarness) -> None:
    write_heights(harness.dataset / "dem.tif", np.zeros((100, 200)))
    preview = harness.preview(tool, {"path": "dem.tif", "altitudeDeg": 30.0}, longest_px=50)
    with Image.open(io.BytesIO(preview)) as image:
        assert (image.format, image.size) == ("WEBP", (50, 25))
        assert abs(int(np.asarray(image.convert("L"))[12, 25]) - 128) <= 2  # 1 + 254 · sin 30°


def test_the_server_validates_previews_and_runs_it(world: World, tmp_path: Path) -> None:
    write_heights(tmp_path / "dem.tif", np.zeros((8, 16)))
    dataset = world.dataset()
    dataset.upload("dem.tif", tmp_path / "dem.tif")
    address, params = f"{dataset.address}/tools/hillshade", {"path": "dem.tif", "altitudeDeg": 5.0}
    validated = dataset.client.post(f"{address}/validate", json=params).json()
    assert (validated["ok"], len(validated["warnings"]), validated["summary"]["width"]) == (True, 1, 16)
    preview = dataset.client.post(f"{address}/preview", params={"size": 16}, json=params)
    assert (preview.status_code, preview.headers["content-type"]) == (200, "image/webp")
    with Image.open(io.BytesIO(preview.content)) as image:
        assert image.size == (16, 8)
    assert dataset.run("hillshade", params)["state"] == "Succeeded"


def test_the_server_limits_the_active_tasks_of_its_quota_class(
    make_stack: StackFactory, tmp_path: Path
) -> None:
    write_heights(tmp_path / "dem.tif", np.zeros((8, 16)))
    with make_stack(workers=1, max_running_tasks_per_user="1") as world:
        dataset = world.dataset()
        dataset.upload("dem.tif", tmp_path / "dem.tif")
        running = dataset.submit("patient", {"until": str(tmp_path / "never")})
        eventually(lambda: dataset.status(running)["state"] == "Processing")
        waiting = dataset.try_submit("hillshade", {"path": "dem.tif"})
        another = dataset.try_submit("bulk-download", {})
        assert (waiting.status_code, another.status_code) == (202, 429)
        assert another.json()["limitName"] == "maxActiveBulkDownloadsPerUser"


def test_more_than_one_band_is_refused_at_submit(tool: Tool[Any], harness: ToolHarness) -> None:
    write_heights(harness.dataset / "rgb.tif", np.zeros((3, 8, 8)))
    with pytest.raises(InvalidInput) as refused:
        harness.check(tool, {"path": "rgb.tif"})
    assert refused.value.code == "one-band-only"
