"""Overviews: halved tiles, computed by hand, and the levels that GDAL reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from tests.raster.rasters import export, slope, write_raster

from aerotask.raster.export.write import ExportWriteOptions
from aerotask.raster.overviews import (
    OverviewRules,
    halve_indices,
    halve_rgba,
    halve_samples,
    halving_for,
)
from aerotask.raster.tiff.codec import TileLayout
from aerotask.raster.tiff.cog_levels import overview_shapes


def rgba(*pixels: tuple[int, int, int, int]) -> np.ndarray:
    return np.array(pixels, np.uint8).view(np.uint32).reshape(2, 2)


def channels(tile: np.ndarray) -> list[int]:
    return [int(channel) for channel in np.ascontiguousarray(tile).view(np.uint8)[0]]


def test_overviews_end_when_one_tile_holds_the_image() -> None:
    assert overview_shapes((1025, 700), (512, 512)) == [(513, 350), (257, 175)]
    assert overview_shapes((512, 512), (512, 512)) == []


def test_a_line_of_pixels_is_not_halved() -> None:
    assert overview_shapes((1, 5000), (512, 512)) == []
    assert overview_shapes((5000, 3), (512, 512)) == [(2500, 2), (1250, 1)]


def test_colours_are_averaged_and_rounded() -> None:
    tile = rgba((0, 10, 255, 255), (1, 10, 255, 255), (1, 10, 255, 255), (0, 11, 254, 255))
    assert channels(halve_rgba(tile)) == [1, 10, 255, 255]  # 0.5, 10.25, 254.75


def test_transparent_pixels_are_left_out_of_means() -> None:
    nothing = (0, 0, 0, 0)
    assert channels(halve_rgba(rgba((100, 50, 7, 255), nothing, nothing, nothing))) == [100, 50, 7, 255]
    assert channels(halve_rgba(rgba((90, 0, 0, 255), nothing, (93, 0, 0, 255), (93, 1, 0, 255)))) == [
        92,
        0,
        0,
        255,
    ]
    assert channels(halve_rgba(rgba(nothing, nothing, nothing, nothing))) == [0, 0, 0, 0]


def test_values_are_averaged_without_nan() -> None:
    tile = np.array([[1, 3, np.nan, np.nan], [5, 7, np.nan, 8]], np.float32)[..., None]
    assert halve_samples(tile)[..., 0].tolist() == [[4.0, 8.0]]
    assert np.isnan(halve_samples(np.full((2, 2, 1), np.nan, np.float32))).all()


def test_indices_are_taken_not_averaged() -> None:
    assert halve_indices(np.array([[7, 9], [200, 3]], np.uint8)).tolist() == [[7]]


def halved(rows: list[list[Any]], dtype: str, nodata: float | None = None) -> list[Any]:
    tile = np.array(rows, dtype)[..., np.newaxis]
    result = halving_for(TileLayout(tile.shape, tile.dtype, 0), OverviewRules(nodata=nodata))(tile, None)
    assert result.dtype == tile.dtype
    return list(result[..., 0].tolist())


def test_whole_numbers_are_rounded_to_the_nearest() -> None:
    assert halved([[1, 2, 65535, 65535], [2, 2, 65535, 65534]], "uint16") == [[2, 65535]]  # 1.75, 65534.75
    assert halved([[-1, -2], [-2, -2]], "int16") == [[-2]]  # -1.75
    assert halved([[2**32 - 1] * 2] * 2, "uint32") == [[2**32 - 1]]


def test_nodata_is_left_out_of_means() -> None:
    assert halved([[0, 9, 0, 0], [0, 0, 0, 0]], "uint16", nodata=0) == [[9, 0]]
    assert halved([[0, 9], [10, 0]], "uint16", nodata=0) == [[10]]  # 9.5
    assert halved([[-10000.0, 0.5], [1.5, -10000.0]], "float32", nodata=-10000) == [[1.0]]
    assert halved([[-10000.0, -10000.0]] * 2, "float32", nodata=-10000) == [[-10000.0]]


def test_nan_is_left_out_of_means() -> None:
    assert halved([[np.nan, 1.0], [2.0, np.nan]], "float64") == [[1.5]]
    assert np.isnan(halved([[np.nan] * 2] * 2, "float32")[0][0])


def test_infinities_stay_infinite() -> None:
    assert halved([[np.inf, 1.0], [2.0, 3.0]], "float32") == [[np.inf]]


@pytest.mark.parametrize("nodata", [None, 7.0])
def test_each_band_is_halved_by_itself(nodata: float | None) -> None:
    tile = np.zeros((2, 2, 2), np.uint8)
    tile[..., 1] = 100
    halve = halving_for(TileLayout(tile.shape, tile.dtype, 0), OverviewRules(nodata=nodata))
    assert halve(tile, None).tolist() == [[[0, 100]]]


def test_gdal_sees_the_overviews_and_their_pixels(tmp_path: Path) -> None:
    source = write_raster(tmp_path / "in.tif", slope((300, 200)), nodata=-1)
    target = tmp_path / "out.tif"
    export(source, target, ExportWriteOptions(threads=2, tile_px=64), formula="NDVI", bandFilter="RN")
    with rasterio.open(target) as opened:
        assert opened.overviews(1) == [2, 4, 8]
        full = opened.read().astype(int)
    with rasterio.open(target, overview_level=0) as half:
        assert half.shape == (150, 100)
        means = full.reshape(4, 150, 2, 100, 2).sum((2, 4))
        np.testing.assert_array_equal(half.read(), (means + 2) // 4)


def test_an_empty_raster_has_empty_overviews(tmp_path: Path) -> None:
    source = write_raster(tmp_path / "in.tif", np.zeros((1, 200, 200), np.uint8), nodata=0)
    target = tmp_path / "out.tif"
    assert export(source, target, ExportWriteOptions(threads=2, tile_px=64)).valid_px == 0
    with rasterio.open(target, overview_level=1) as quarter:
        assert not quarter.read().any()
