"""Plans of an alignment: levels, chips, patches and the overlap of footprints."""

from __future__ import annotations

import pytest

from aerotask.raster.alignment.footprints import area, intersection, outline, overlap_share
from aerotask.raster.alignment.match.pyramid import (
    CHIP_PX,
    MOST_CHIPS,
    PixelBox,
    level_factors,
    patch_side,
    plan_chips,
)

SQUARE = [(0.0, 0.0), (4.0, 0.0), (4.0, 4.0), (0.0, 4.0)]


def test_an_outline_follows_rotation_and_direction() -> None:
    assert outline((10, 2, 0, 50, 0, -2), 3, 4) == [(10, 50), (16, 50), (16, 42), (10, 42)]
    assert outline((10, 2, 0, 50, 0, 2), 3, 4) == [(10, 50), (16, 50), (16, 58), (10, 58)]
    assert outline((0, 1, 1, 0, 1, -1), 2, 1) == [(0, 0), (2, 2), (3, 1), (1, -1)]


@pytest.mark.parametrize("other", [SQUARE, SQUARE[::-1]], ids=["anticlockwise", "clockwise"])
def test_overlap_is_a_share_of_the_smaller_footprint(other: list[tuple[float, float]]) -> None:
    moved = [(x + 3, y + 2) for x, y in other]
    assert area(intersection(SQUARE, moved)) == pytest.approx(1 * 2)
    assert overlap_share(SQUARE, moved) == pytest.approx(2 / 16)
    assert overlap_share([(0, 0), (100, 0), (100, 100), (0, 100)], other) == 1
    assert overlap_share(SQUARE, [(x + 9, y) for x, y in other]) == 0


def test_a_rotated_square_cuts_off_the_corners() -> None:
    diamond = [(2.0, -1.0), (5.0, 2.0), (2.0, 5.0), (-1.0, 2.0)]
    # Of 16, four corners of 1 · 1 / 2 are missing.
    assert area(intersection(SQUARE, diamond)) == pytest.approx(14)


def test_areas_far_from_the_origin_are_precise() -> None:
    far = [(x + 6e6, y + 5e6) for x, y in SQUARE]
    assert area(far) == pytest.approx(16, rel=1e-9)


@pytest.mark.parametrize(
    ("seed", "finest", "expected"),
    [
        (1.0, 1, (1,)),
        (4.1, 1, (4, 1)),
        (20, 1, (20, 4, 1)),
        (100, 1, (100, 22, 5, 1)),
        (4, 4, (4,)),
        (2, 3, (3,)),
    ],
)
def test_levels_reach_full_detail_in_steps(seed: float, finest: int, expected: tuple[int, ...]) -> None:
    assert level_factors(seed, finest) == expected


def test_a_small_overlap_is_read_whole() -> None:
    chips = plan_chips(PixelBox(10, 20, 610, 420), 1)
    assert [(chip.left, chip.top, chip.shape_yx) for chip in chips] == [
        (10, 20, (200, 300)),
        (310, 20, (200, 300)),
        (10, 220, (200, 300)),
        (310, 220, (200, 300)),
    ]


@pytest.mark.parametrize(("width", "height"), [(20_000, 20_000), (300_000, 4000), (500, 200_000)])
def test_a_large_overlap_is_sampled_evenly(width: int, height: int) -> None:
    chips = plan_chips(PixelBox(0, 0, width, height), 1)
    assert len(chips) <= MOST_CHIPS
    assert all(max(chip.shape_yx) <= CHIP_PX for chip in chips)
    centres = (
        [chip.left + chip.shape_yx[1] / 2 for chip in chips],
        [chip.top + chip.shape_yx[0] / 2 for chip in chips],
    )
    assert sum(centres[0]) / len(chips) == pytest.approx(width / 2, rel=0.01)
    assert sum(centres[1]) / len(chips) == pytest.approx(height / 2, rel=0.01)


def test_patches_fit_the_overlap() -> None:
    assert (patch_side(PixelBox(0, 0, 1000, 320), 1), patch_side(PixelBox(0, 0, 1000, 300), 1)) == (64, 32)
    assert patch_side(PixelBox(0, 0, 4000, 1200), 4) == 32
