"""Percentile stretch: ranges taken from the pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.raster.rasters import Pixels, parse_options, source_file, write_raster

from aerotask.raster.export.plan import make_plan
from aerotask.raster.export.stretch import Stretch, percentile_stretch
from aerotask.raster.profile import BandProfile, RasterProfile
from aerotask.raster.sampling import SAMPLE_PX, plan_sample, plan_thinned


def stretch(path: Path, *, threads: int = 2, **parameters: Any) -> Stretch:
    source = source_file(path)
    plan = make_plan(parse_options(**parameters), source.profile)
    return percentile_stretch(source, plan, threads=threads, on_progress=lambda _share: None)


def ranges(path: Path, **parameters: Any) -> list[tuple[float, float]]:
    return [(each.low, each.high) for each in stretch(path, **parameters).ranges]


def hundred_and_one() -> Pixels:
    return np.arange(101, dtype=np.uint8).reshape(1, 1, 101)


def test_the_range_is_from_the_2nd_to_the_98th_percentile(tmp_path: Path) -> None:
    assert ranges(write_raster(tmp_path / "in.tif", hundred_and_one())) == [(2.0, 98.0)]


def test_percentiles_interpolate_between_values(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "in.tif", np.array([[[0, 100]]], np.uint8))
    assert ranges(path) == [(2.0, 98.0)]


def test_each_of_three_bands_has_its_own_range(tmp_path: Path) -> None:
    pixels = np.concatenate([hundred_and_one(), hundred_and_one() + 100, hundred_and_one() * 2])
    path = write_raster(tmp_path / "in.tif", pixels)
    assert ranges(path) == [(2.0, 98.0), (102.0, 198.0), (4.0, 196.0)]


def test_invalid_pixels_are_left_out(tmp_path: Path) -> None:
    values = np.concatenate(
        [hundred_and_one().astype(np.float32), np.full((1, 1, 400), -1, np.float32)], axis=2
    )
    values[0, 0, 101:200] = np.nan
    assert ranges(write_raster(tmp_path / "in.tif", values, nodata=-1)) == [(2.0, 98.0)]


def test_a_formula_is_computed_before_its_range_is_taken(tmp_path: Path) -> None:
    pixels = np.concatenate([hundred_and_one(), np.full((1, 1, 101), 2, np.uint8)])
    assert ranges(write_raster(tmp_path / "in.tif", pixels), formula="b1/b2") == [(1.0, 49.0)]


def test_a_raster_of_one_value_has_a_range_around_it(tmp_path: Path) -> None:
    assert ranges(write_raster(tmp_path / "in.tif", np.full((1, 3, 3), 7, np.uint8))) == [(6.5, 7.5)]


def test_a_raster_without_values_gets_the_range_0_to_1(tmp_path: Path) -> None:
    found = stretch(write_raster(tmp_path / "in.tif", np.zeros((1, 9, 9), np.uint8), nodata=0))
    assert (found.found_values, found.ranges[0].low, found.ranges[0].high) == (False, 0, 1)


def test_a_large_raster_is_sampled_from_its_overview(tmp_path: Path) -> None:
    pixels = np.zeros((1, 1600, 1600), np.uint8)
    pixels[:, :, 800:] = 100
    path = write_raster(tmp_path / "in.tif", pixels, overviews=[2, 4], tiled=True, compress="deflate")
    found = stretch(path)
    assert found.sample == "the overview of 800 × 800 pixels"
    assert (found.ranges[0].low, found.ranges[0].high) == (0.0, 100.0)


def test_a_large_raster_without_overviews_is_sampled_in_blocks(tmp_path: Path) -> None:
    rows, cols = np.mgrid[:2000, :2000]
    pixels = ((rows + cols) / 16).astype(np.uint8)[None]
    path = write_raster(
        tmp_path / "in.tif", pixels, tiled=True, blockxsize=208, blockysize=208, compress="deflate"
    )
    found = stretch(path)
    assert found.sample == "100 blocks spread over the raster"
    exact = np.percentile(pixels, (2, 98))
    assert (found.ranges[0].low, found.ranges[0].high) == pytest.approx(tuple(exact), abs=2)


def test_a_nearly_empty_large_raster_is_sampled_everywhere(tmp_path: Path) -> None:
    pixels = np.zeros((1, 1100, 5000), np.uint8)
    pixels[:, :16, :16] = 9
    options: dict[str, Any] = {"tiled": True, "blockxsize": 16, "blockysize": 16}
    found = stretch(write_raster(tmp_path / "in.tif", pixels, nodata=0, **options))
    assert (found.sample, found.ranges[0].low) == ("one pixel in 3 down and across", 8.5)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_range_does_not_depend_on_the_threads(tmp_path: Path, threads: int) -> None:
    pixels = np.random.default_rng(3).integers(0, 60_000, (1, 700, 700)).astype(np.uint16)
    path = write_raster(tmp_path / "in.tif", pixels)
    exact = np.percentile(pixels.astype(np.float32), (2, 98))
    found = stretch(path, threads=threads)
    assert (found.ranges[0].low, found.ranges[0].high) == tuple(exact)


shapes = st.tuples(st.integers(1, 40_000), st.integers(1, 40_000))
blocks = st.tuples(st.integers(1, 2048), st.integers(1, 2048))


@settings(deadline=None)
@given(shapes, blocks)
def test_a_sample_stays_within_the_raster_and_near_its_size(
    size: tuple[int, int], block: tuple[int, int]
) -> None:
    width, height = size
    band = BandProfile("uint8", None, "gray", None)
    block_size = (min(block[0], width), min(block[1], height))
    profile = RasterProfile(width, height, (band,), None, None, block_size, (), "")
    for sample in (plan_sample(profile), plan_thinned(profile)):
        pixels = 0
        for rows, cols in sample.windows:
            assert 0 <= rows.start < rows.stop <= height
            assert 0 <= cols.start < cols.stop <= width
            pixels += len(range(rows.start, rows.stop, sample.stride)) * len(
                range(cols.start, cols.stop, sample.stride)
            )
        assert pixels <= 2.2 * SAMPLE_PX
        assert len(set(map(str, sample.windows))) == len(sample.windows)
