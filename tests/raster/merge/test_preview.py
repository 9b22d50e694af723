"""Previews of merges."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.raster.merge.test_merge import UNPLACED, planned, write_bands
from tests.raster.rasters import Pixels

from aerotask.raster.merge.plan import MergePlan, OpticalCentrePx
from aerotask.raster.merge.preview import preview_merge, shown_bands


def picture_of(plan: MergePlan, **options: Any) -> Pixels:
    content = preview_merge(plan, **options)
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.format == "WEBP"
        return np.asarray(picture.convert("RGBA"))


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (["blue", "green", "red", "nir", "rededge"], (3, 2, 1)),
        (["blue", "green", "red"], (2, 1, 0)),
        (["a", "b", "c", "d"], (0, 1, 2)),
        (["red", "nir"], (0, 1, 1)),
    ],
)
def test_false_colour_is_preferred(names: list[str], shown: tuple[int, int, int]) -> None:
    assert shown_bands(names) == shown


def test_a_large_raster_becomes_a_small_image_of_the_same_aspect(tmp_path: Path) -> None:
    plan = planned(write_bands(tmp_path, np.ones((3, 600, 1500), np.uint16)))
    assert picture_of(plan).shape == (410, 1024, 4)
    assert picture_of(plan, longest_px=100).shape == (40, 100, 4)


def test_bright_bands_are_bright_in_their_colour_and_nodata_is_transparent(tmp_path: Path) -> None:
    """Green at the top left, red at the top right, near infrared at the bottom left, nodata at the bottom right."""
    pixels = np.full((4, 64, 64), 100, np.uint16)
    pixels[1, :32, :32] = pixels[2, :32, 32:] = pixels[3, 32:, :32] = 9000
    pixels[:, 32:, 32:] = 0
    picture = picture_of(planned(write_bands(tmp_path, pixels, nodata=0)))
    shown = [picture[row, col].tolist() for row, col in ((16, 16), (16, 48), (48, 16), (48, 48))]
    assert [shown[at].index(max(shown[at][:3])) for at in range(3)] == [2, 1, 0]
    assert [max(each[:3]) > 200 for each in shown[:3]] == [True, True, True]
    assert [each[3] for each in shown] == [255, 255, 255, 0]


def test_bands_are_shown_with_their_shifts(tmp_path: Path) -> None:
    """A bright square whose positions differ between bands as their centres do is white."""
    pixels = np.full((3, 100, 100), 10, np.uint8)
    centres = [OpticalCentrePx("point", 50 + x, 50 + y) for x, y in ((0, 0), (10, -6), (-8, 4))]
    for plane, (x, y) in zip(pixels, ((0, 0), (10, -6), (-8, 4)), strict=True):
        plane[40 + y : 60 + y, 40 + x : 60 + x] = 200
    picture = picture_of(planned(write_bands(tmp_path, pixels, **UNPLACED), centres))
    assert picture.shape == (90, 82, 4)
    bright = picture[..., :3].astype(int).min(axis=2) > 180
    dark = picture[..., :3].astype(int).max(axis=2) < 70
    assert 350 <= np.count_nonzero(bright) <= 400
    assert np.count_nonzero(bright | dark) > 0.97 * bright.size


@pytest.mark.parametrize("fill", [0.0, np.nan, np.inf, 1e308])
def test_rasters_without_values_or_with_one_value_have_a_preview(tmp_path: Path, fill: float) -> None:
    plan = planned(write_bands(tmp_path, np.full((2, 20, 20), fill), nodata=0))
    assert picture_of(plan).shape == (20, 20, 4)
