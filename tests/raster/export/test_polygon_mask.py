"""Mask of the pixels whose centre is within polygons, window by window."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import shapely
from rasterio.features import rasterize

from aerotask.raster.export import polygon_mask
from aerotask.raster.export.polygon_mask import PolygonMask

SHAPE = (90, 110)
WHOLE = (slice(0, 90), slice(0, 110))


def star(seed: int) -> Any:
    """A valid polygon, often with holes and several parts, that reaches beyond the pixels."""
    corners = np.random.default_rng(seed).uniform(-20, 120, (3 + seed % 30, 2))
    return shapely.make_valid(shapely.polygons(corners), method="structure")


@pytest.mark.parametrize("seed", range(20))
def test_the_mask_is_that_of_gdal(seed: int) -> None:
    expected = rasterize([star(seed)], out_shape=SHAPE).astype(bool)
    assert np.array_equal(PolygonMask(star(seed)).inside(WHOLE), expected)


def test_a_centre_decides() -> None:
    square = shapely.box(1.4, 1.6, 3.6, 3.4)
    inside = PolygonMask(square).inside((slice(0, 5), slice(0, 5)))
    assert np.argwhere(inside).tolist() == [[2, 1], [2, 2], [2, 3]]


@pytest.mark.parametrize("seed", [1, 7, 12])
@pytest.mark.parametrize("stride", [1, 3])
def test_any_window_has_the_pixels_of_the_whole(seed: int, stride: int) -> None:
    mask = PolygonMask(star(seed))
    whole = mask.inside(WHOLE)
    for top, left, rows, cols in ((0, 0, 17, 110), (13, 29, 60, 1), (80, 100, 10, 10), (5, 5, 64, 64)):
        window = (slice(top, top + rows), slice(left, left + cols))
        assert np.array_equal(mask.inside(window, stride=stride), whole[window][::stride, ::stride])


def test_many_edges_are_taken_row_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = PolygonMask(star(7)).inside(WHOLE)
    monkeypatch.setattr(polygon_mask, "MAX_CROSSINGS", 20)
    assert np.array_equal(PolygonMask(star(7)).inside(WHOLE), whole)


def test_a_window_beside_the_polygons_is_outside() -> None:
    mask = PolygonMask(shapely.box(10, 10, 20, 20))
    assert not mask.inside((slice(40, 50), slice(0, 50))).any()
    assert not mask.inside((slice(0, 50), slice(40, 50))).any()
    assert mask.inside((slice(12, 14), slice(12, 14))).all()
