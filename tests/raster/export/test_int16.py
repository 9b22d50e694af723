"""Values as Int16 numbers with scale and offset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from tests.raster.rasters import Pixels, read, write_raster
from tests.tools.raster_harness import empty_harness

from aerotask.domain.errors import InvalidInput
from aerotask.raster.export.physical_values import int16_scaling
from aerotask.raster.expression.indices import ValueRange
from aerotask.sdk.testing import ToolHarness, ToolOutcome
from aerotask.tools.raster_export import RasterExport

TOOL = RasterExport()
NODATA = -32768


def pixels() -> Pixels:
    found = np.random.default_rng(3).integers(100, 9000, (2, 150, 230)).astype(np.uint16)
    found[:, :40, :70] = 0
    return found


@pytest.fixture
def harness(tmp_path: Path) -> ToolHarness:
    harness = empty_harness(tmp_path)
    write_raster(harness.dataset / "in.tif", pixels(), descriptions=("red", "nir"), nodata=0)
    return harness


def run(harness: ToolHarness, **params: Any) -> ToolOutcome:
    return harness.run(TOOL, {"path": "in.tif", "colormap": "none", "dataType": "int16"} | params)


def unscaled(path: Path) -> Pixels:
    """The values as GDAL's unscaling gives them."""
    with rasterio.open(path) as opened:
        numbers = opened.read(1, masked=True)
        values: Pixels = (numbers * opened.scales[0] + opened.offsets[0]).filled(np.nan)
    return values


@pytest.mark.parametrize("format_", ["gtiff", "cog"])
@pytest.mark.parametrize(
    ("shown", "scale"),
    [
        ({"formula": "NDVI"}, 0.0001),
        ({"formula": "N/R", "rescale": "0,100"}, 0.002),
        ({"bands": "2"}, 0.2),
    ],
)
def test_values_are_within_half_a_scale_of_those_in_float32(
    harness: ToolHarness, shown: dict[str, str], scale: float, format_: str
) -> None:
    exact = read(run(harness, dataType="float32", **shown).artifact)[0]
    outcome = run(harness, format=format_, **shown)
    with rasterio.open(outcome.artifact) as opened:
        assert (opened.dtypes, opened.nodata, opened.scales) == (("int16",), NODATA, (scale,))
        assert (opened.read(1) == NODATA).sum() == 40 * 70
    found = unscaled(outcome.artifact)
    assert np.array_equal(np.isnan(found), np.isnan(exact))
    assert np.nanmax(np.abs(found - exact)) <= scale / 2 * 1.001
    assert (outcome.result["dataType"], outcome.result["scale"], outcome.result["warnings"]) == (
        "int16",
        scale,
        [],
    )


def test_the_log_and_the_result_name_scale_and_offset(harness: ToolHarness) -> None:
    outcome = run(harness, formula="NDVI")
    assert outcome.log[-2] == (
        "Writing the values from -1 to 1 (the formula's own range) as Int16: value = number × 0.0001 + 0, with -32768 as "
        "nodata."
    )
    result = outcome.result
    assert (result["offset"], result["range"], result["rescaleSource"]) == (0.0, [[-1, 1]], "formula")
    band = run(harness, bands="1")
    low, high = int(pixels()[0][pixels()[0] > 0].min()), int(pixels()[0].max())
    assert f"from {low} to {high} (smallest and largest value)" in band.log[-2]
    assert (band.result["rescaleSource"], band.result["range"]) == ("extremes", [[low, high]])


def test_values_beyond_the_numbers_are_counted(harness: ToolHarness) -> None:
    outcome = run(harness, bands="1", rescale="100,1000")
    highest = 550 + 32767 * 0.02
    beyond = int((pixels()[0] > highest + 0.01).sum())
    [warning] = outcome.result["warnings"]
    assert warning == (
        f"{beyond:,} pixels have values beyond -105.34 to 1205.34, which Int16 can hold with scale 0.02 and offset 550; they have "
        "the nearest of these values. Give a 'rescale' that spans all values, or take float32."
    )
    assert np.nanmax(unscaled(outcome.artifact)) == pytest.approx(highest)


def test_overviews_are_means_of_the_pixels_with_a_value(harness: ToolHarness) -> None:
    write_raster(harness.dataset / "large.tif", np.full((1, 700, 600), 5, np.uint8), nodata=0)
    outcome = run(harness, path="large.tif", bands="1", rescale="0,10")
    with rasterio.open(outcome.artifact, overview_level=0) as overview:
        assert np.unique(overview.read(1)).tolist() == [0]  # the middle of the range, by its offset
        assert overview.shape == (350, 300)


def test_numbers_of_a_scaled_band_keep_its_scale(harness: ToolHarness) -> None:
    with rasterio.open(harness.dataset / "in.tif", "r+") as opened:
        opened.scales, opened.offsets = (0.01, 0.01), (5, 5)
    outcome = run(harness, bands="1", unscale="false", rescale="0,10000")
    physical = np.where(pixels()[0] > 0, pixels()[0] * 0.01 + 5, np.nan)
    np.testing.assert_allclose(unscaled(outcome.artifact), physical, atol=0.0026)


@pytest.mark.parametrize("value", [0.25, 7.0])
def test_a_constant_is_exact(harness: ToolHarness, value: float) -> None:
    write_raster(harness.dataset / "same.tif", np.full((1, 20, 20), value, np.float32))
    assert np.unique(unscaled(run(harness, path="same.tif", bands="1").artifact)).tolist() == [value]


@pytest.mark.parametrize(
    ("low", "high", "scaling"),
    [
        (-1, 1, (0.0001, 0.0)),
        (-40, 150, (0.005, 55.0)),
        (0, 65534, (1.0, 32767.0)),
        (0, 1e-6, (2e-11, 5e-7)),
        (-3e38, 3e38, (1e34, 0.0)),
    ],
)
def test_the_scale_is_the_smallest_round_one(low: float, high: float, scaling: tuple[float, float]) -> None:
    assert int16_scaling(ValueRange(low, high)) == pytest.approx(scaling)


@pytest.mark.parametrize(
    "params",
    [
        {"colormap": "rdylgn", "formula": "NDVI"},
        {"colormap": None, "formula": "NDVI"},
        {"bands": "1,2,1"},
        {"colormap": None, "format": "palette", "formula": "NDVI"},
    ],
)
def test_colours_and_several_values_are_refused(harness: ToolHarness, params: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as caught:
        run(harness, **params)
    assert caught.value.code == "data-type-impossible"
