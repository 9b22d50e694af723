"""Warping: windowed equals whole, and pixels end at their exact positions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rasterio.windows import Window as RasterioWindow
from tests.raster.alignment.scenes import canvas, cut, on_disk
from tests.raster.rasters import Pixels

from aerotask.raster.alignment.match.similarity import Similarity
from aerotask.raster.alignment.output_grid import OutputGrid, plan_output
from aerotask.raster.alignment.pair import make_pair
from aerotask.raster.alignment.warping import FillValues, WindowWarper, fill_values_for
from aerotask.raster.io import open_raster
from aerotask.raster.pixels import SourceFile
from aerotask.raster.windows import Window, windows

TURN = Similarity(0.97 * np.exp(0.3j), 3.3 - 1.7j)


def planned(file: SourceFile, transform: Similarity) -> OutputGrid:
    return plan_output(make_pair(file, file), transform)


def moved(file: SourceFile, grid: OutputGrid, window: Window, filling: FillValues | None = None) -> Pixels:
    with open_raster(file.path) as opened, np.errstate(all="ignore"):
        return WindowWarper(opened, grid, filling or fill_values_for(file.profile)).window(window).pixels


def whole(grid: OutputGrid) -> Window:
    return slice(0, grid.shape_yx[0]), slice(0, grid.shape_yx[1])


@pytest.fixture
def holed(tmp_path: Path) -> SourceFile:
    """200 × 200 pixels with a hole and a collar of nodata."""
    pixels = cut(canvas(41, side=328), left=0, top=0, side=200)
    pixels[:, 80:95, 60:90] = 0
    pixels[:, :20] = 0
    return on_disk(tmp_path / "holed.tif", pixels, nodata=0)


def test_a_mask_decides_where_there_is_a_nodata_value_too(tmp_path: Path) -> None:
    pixels = np.full((1, 60, 60), 40, np.uint8)
    pixels[:, 20:40, 20:40] = 0
    mask = np.full((60, 60), 255, np.uint8)
    mask[:, 50:] = 0
    file = on_disk(tmp_path / "masked.tif", pixels, nodata=0, mask=mask)
    grid = planned(file, Similarity(1 + 0j, 0j))
    [result] = moved(file, grid, whole(grid))
    # A black pixel is moved beside the nodata value, which marks empty pixels in the output.
    assert (result[30, 30], result[5, 5], result[5, 55]) == (1, 40, 0)


@pytest.mark.parametrize("step", [64, 100])
def test_windowed_equals_whole(holed: SourceFile, step: int) -> None:
    grid = planned(holed, TURN)
    at_once = moved(holed, grid, whole(grid))
    piecewise = np.zeros_like(at_once)
    for window in windows(grid.shape_yx, (step, step)):
        piecewise[:, window[0], window[1]] = moved(holed, grid, window)
    assert np.array_equal(piecewise, at_once)


def test_a_shift_by_whole_pixels_copies_pixels(holed: SourceFile) -> None:
    # One and a half metres to the east and one to the south: 3 columns and 2 rows.
    grid = planned(holed, Similarity(1 + 0j, 1.5 - 1j))
    assert (grid.left, grid.top, grid.shape_yx) == (3, 2, (200, 200))
    with open_raster(holed.path) as opened:
        assert np.array_equal(moved(holed, grid, whole(grid)), opened.read())


def test_the_output_covers_the_rotated_source(holed: SourceFile) -> None:
    quarter = planned(holed, Similarity(1j, 0j))
    assert quarter.shape_yx == (200, 200)
    eighth = planned(holed, Similarity(complex(np.exp(0.25j * np.pi)), 0j))
    # √2 · 200 = 282.8, plus what whole pixels add.
    assert eighth.shape_yx == (284, 284)


def test_a_slope_stays_a_slope(tmp_path: Path) -> None:
    rows, cols = np.mgrid[:100, :100].astype(np.float32)
    file = on_disk(tmp_path / "slope.tif", (100 + 2 * cols - rows)[None], nodata=-1)
    # A quarter of a pixel to the east and half a one to the north.
    grid = planned(file, Similarity(1 + 0j, 0.125 + 0.25j))
    pixels = moved(file, grid, whole(grid))[0]
    right, down = grid.left - 0.25, grid.top + 0.5
    rows, cols = np.mgrid[: grid.shape_yx[0], : grid.shape_yx[1]]
    expected = 100 + 2 * (cols + right) - (rows + down)
    assert np.abs(pixels - expected)[5:-5, 5:-5].max() < 1e-3


def test_valid_pixels_do_not_become_nodata(tmp_path: Path) -> None:
    pixels = np.full((1, 64, 64), 1, np.uint8)
    pixels[0, 20:40, 20:40] = 255
    file = on_disk(tmp_path / "low.tif", pixels, nodata=0)
    grid = planned(file, TURN)
    with open_raster(file.path) as opened, np.errstate(all="ignore"):
        result = WindowWarper(opened, grid, fill_values_for(file.profile)).window(whole(grid))
    # The cubic kernel undershoots beside the bright square: to 0 and below, were it let.
    assert result.pixels[0][result.covered].min() == 1
    assert set(np.unique(result.pixels[0][~result.covered])) == {0}


def test_bright_pixels_beside_a_hole_do_not_bleed_into_it(holed: SourceFile) -> None:
    grid = planned(holed, Similarity(1 + 0j, 0.25 + 0.25j))
    with open_raster(holed.path) as opened:
        source = opened.read(window=RasterioWindow(0, 20, 200, 180))
    result = moved(holed, grid, whole(grid))
    seen = result[result > 0]
    assert seen.min() > 0.5 * source[source > 0].min()
