"""Patch matching and its subpixel peaks."""

from __future__ import annotations

import numpy as np
import pytest
from tests.raster.alignment.scenes import canvas

from aerotask.raster.alignment.common_grid import Grid
from aerotask.raster.alignment.match.gradient import REACH_PX, gradient_of
from aerotask.raster.alignment.match.initial_estimate import estimate_transform
from aerotask.raster.alignment.match.patches import (
    PatchSearch,
    match_patches,
    quadratic_peak,
    strongest_corners,
)
from aerotask.raster.alignment.match.reading import MaskedImage, filled


def picture(seed: int = 51, *, side: int = 300) -> MaskedImage:
    values = canvas(seed, side=side, bands=1)[0].astype(np.float32)
    return MaskedImage(values, np.ones(values.shape, np.bool_))


def part(whole: MaskedImage, left: int, top: int, side: int) -> MaskedImage:
    rows, cols = slice(top, top + side), slice(left, left + side)
    return MaskedImage(
        np.ascontiguousarray(whole.values[rows, cols]), np.ascontiguousarray(whole.valid[rows, cols])
    )


@pytest.mark.parametrize(("x", "y"), [(0.0, 0.0), (0.25, -0.4), (-0.1, 0.3)])
def test_the_vertex_of_a_paraboloid_is_found(x: float, y: float) -> None:
    columns, rows = np.meshgrid([-1.0, 0, 1], [-1.0, 0, 1])
    values = 1 - (columns - x) ** 2 - 2 * (rows - y) ** 2 + 0.5 * (columns - x) * (rows - y)
    assert quadratic_peak(values) == pytest.approx((x, y))


def test_a_surface_without_a_maximum_gives_its_middle() -> None:
    assert quadratic_peak(np.ones((3, 3))) == (0, 0)
    assert quadratic_peak(np.array([[1.0, 0, 1], [0, -1, 0], [1, 0, 1]])) == (0, 0)


def test_moved_patches_are_found() -> None:
    whole = picture()
    search = PatchSearch(patch_px=32, reach_px=8, max_count=20)
    # The reference shows eight more pixels on every side; what the source shows lies 3 columns and −2 rows further in it.
    source, reference = part(whole, 40, 40, 200), part(whole, 40 - 8 - 3, 40 - 8 + 2, 216)
    patches = match_patches(gradient_of(source), gradient_of(reference), search)
    assert len(patches.centres) == 20
    assert np.abs(patches.found - patches.centres - (3, -2)).max() < 0.02
    assert patches.correlations.min() > 0.99


def test_patches_avoid_invalid_pixels() -> None:
    whole = picture()
    valid = whole.valid.copy()
    valid[:, 150:] = False
    corners = strongest_corners(gradient_of(filled(whole.values, valid)), patch_px=32, max_count=100)
    assert corners
    # At most a tenth of a patch of 32 lies beyond the edge, which smoothing moves inwards.
    assert max(x for x, _ in corners) <= 150 - REACH_PX - 16 + 4


def test_edges_beside_invalid_pixels_are_invalid() -> None:
    whole = picture()
    valid = whole.valid.copy()
    valid[100, 100] = False
    edges = gradient_of(filled(whole.values, valid))
    assert not edges.valid[100 - REACH_PX : 101 + REACH_PX, 100 - REACH_PX : 101 + REACH_PX].any()
    assert edges.valid.sum() == 300 * 300 - (2 * REACH_PX + 1) ** 2
    assert edges.strength[edges.valid].mean() == pytest.approx(0, abs=1e-3)


def test_gain_and_offset_do_not_change_edges() -> None:
    whole = picture()
    plain, bright = (
        gradient_of(each).strength for each in (whole, MaskedImage(whole.values * 4 + 30, whole.valid))
    )
    # The root of four times the gradient.
    assert np.abs(bright - 2 * plain).max() < 0.01


@pytest.mark.parametrize("mode", ["similarity", "translation"])
def test_the_initial_estimate_of_a_large_shift_is_exact_to_a_pixel(mode: str) -> None:
    whole = picture(side=700)
    grid = Grid(np.array([[0.5, 0, 0], [0, -0.5, 0]]), (512, 512))
    source, reference = part(whole, 90, 0, 512), part(whole, 0, 120, 512)
    seed = estimate_transform(gradient_of(source), gradient_of(reference), grid, mode=mode)  # type: ignore[arg-type]
    # What the source shows at its origin lies 90 columns to the right and 120 rows above the reference's.
    assert seed.transform.shift == pytest.approx(45 + 60j, abs=0.5)
    assert seed.transform.factor == pytest.approx(1, abs=0.01)
    assert (seed.sharpness > 100, seed.rival < 0.1) == (True, True)
