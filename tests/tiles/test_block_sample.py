"""Blocks spread over a large raster stand for those that an image has no time to read."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from tests.raster.rasters import write_raster

from aerotask.raster.header import read_profile
from aerotask.raster.pixels import BandReader
from aerotask.tiles import raster_tiles
from aerotask.tiles.block_sample import sampled, whole
from aerotask.tiles.dataset_cache import DatasetCache, RasterFiles


def test_few_blocks_are_read_as_they_are() -> None:
    nearest = whole((1000, 1000), (10, 10))
    assert sampled(nearest, (250, 250), max_blocks=16) is nearest


def test_each_pixel_moves_to_the_nearest_one_of_the_chosen_blocks() -> None:
    nearest = sampled(whole((100, 60), (10, 6)), (10, 10), max_blocks=15)
    # 10 × 6 blocks hold the pixels; 5 × 3 of them are read.
    assert nearest.cols[0].tolist() == [10, 15, 30, 35, 50, 55]
    assert nearest.rows[:, 0].tolist() == [10, 15, 30, 35, 50, 55, 70, 75, 90, 95]
    assert len(np.unique(nearest.rows // 10)) * len(np.unique(nearest.cols // 10)) == 15


@pytest.mark.parametrize("layout", [{"tiled": True, "blockxsize": 32, "blockysize": 16}, {}])
def test_pixels_read_by_blocks_are_those_of_the_raster(tmp_path: Path, layout: dict[str, Any]) -> None:
    pixels = np.arange(2 * 90 * 70, dtype=np.uint16).reshape(2, 90, 70)
    path = write_raster(tmp_path / "a.tif", pixels, **layout)
    nearest = whole((90, 70), (40, 30))
    with rasterio.open(path) as source:
        block = BandReader(source, read_profile(source), (2, 1)).read_blocks(nearest)
    expected = pixels[::-1, nearest.rows, nearest.cols]
    np.testing.assert_array_equal(block.planes, expected)


def test_the_first_thumbnail_of_a_large_raster_shows_it_by_few_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.zeros((1, 640, 640), np.uint8)
    pixels[:, :320] = 200
    pixels[:, :, 320:] += 20
    source = write_raster(tmp_path / "a.tif", pixels, tiled=True, blockxsize=16, blockysize=16)
    monkeypatch.setattr(raster_tiles, "MAX_READ_BYTES", 640 * 640 - 1)
    monkeypatch.setattr(raster_tiles, "SAMPLE_BYTES", 100 * 16 * 16)
    with DatasetCache() as rasters:
        drawn = raster_tiles.draw_thumbnail(rasters, source, RasterFiles(source), size_px=64)
    quarters = drawn[[8, 8, 56, 56], [8, 56, 8, 56], 0]
    assert (drawn[..., 3] == 255).all()
    assert len(np.unique(drawn[..., 0])) == 4
    assert np.argsort(quarters).tolist() == [2, 3, 0, 1]
