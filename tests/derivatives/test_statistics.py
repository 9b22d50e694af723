"""Band statistics of rasters."""

import math
from pathlib import Path

import numpy as np
import pytest
from tests.raster.rasters import write_raster

from aerotask.derivatives.statistics import BandStatistics, percentiles_of, raster_statistics, statistics_of


def test_statistics_cover_only_valid_pixels(tmp_path: Path) -> None:
    pixels = np.array([[[0, 0, 1, 2], [3, 4, 5, 5]]], np.uint16)
    write_raster(tmp_path / "a.tif", pixels, nodata=0)
    [band] = raster_statistics(tmp_path / "a.tif", threads=1, on_progress=lambda _share: None)
    assert band.to_properties() == {
        "min": 1.0,
        "max": 5.0,
        "mean": pytest.approx(20 / 6),
        "std": pytest.approx(math.sqrt(20 / 9)),
        "validPercent": 75.0,
    }


def test_merged_parts_equal_the_whole(tmp_path: Path) -> None:
    pixels = np.random.default_rng(2).normal(1e6, 3, (3, 700, 900)).astype(np.float32)
    pixels[:, 100:200, 300:] = np.nan
    write_raster(tmp_path / "a.tif", pixels, nodata=math.nan, tiled=True, blockxsize=256, blockysize=256)
    steps: list[float] = []
    bands = raster_statistics(tmp_path / "a.tif", threads=2, on_progress=steps.append)
    for band, values in zip(bands, pixels.astype(np.float64), strict=True):
        assert band.valid == np.isfinite(values).sum()
        assert band.mean == pytest.approx(np.nanmean(values), rel=1e-12)
        assert band.to_properties()["std"] == pytest.approx(np.nanstd(values), rel=1e-6)
    assert steps[-1] == 1


def test_a_band_without_valid_pixels_has_no_statistics() -> None:
    empty = np.ma.MaskedArray(np.zeros((1, 2, 2)), mask=True)
    assert [band.to_properties() for band in statistics_of(empty)] == [{"validPercent": 0.0}]
    assert percentiles_of(empty, (2, 98)) == [{}]
    some = BandStatistics(4, 2, 1.0, 3.0, 2.0, 2.0)
    [nothing] = statistics_of(empty)
    assert some.merged(nothing) == nothing.merged(some) == BandStatistics(8, 2, 1.0, 3.0, 2.0, 2.0)
