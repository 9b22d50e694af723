"""Ground footprints of photos, checked by hand where the geometry is simple."""

from __future__ import annotations

import math

import pytest

from aerotask.metadata.photos.footprint import CameraView, footprint

# On the equator a degree east is 111,319.49 m and a degree north 110,574.28 m (WGS 84).
EAST_M, NORTH_M = 111_319.49, 110_574.28


def metres(corners: list[tuple[float, float]] | None) -> list[tuple[float, float]]:
    assert corners is not None
    return [(longitude * EAST_M, latitude * NORTH_M) for longitude, latitude in corners]


def looking(*, yaw: float = 0, pitch: float = -90, roll: float = 0) -> CameraView:
    """View of a camera with a horizontal field of view of 90° and a vertical one of 2·atan(0.5)."""
    return CameraView(yaw, pitch, roll, 90, math.degrees(2 * math.atan(0.5)))


def test_a_nadir_photo_from_100_m_covers_200_by_100_m() -> None:
    assert metres(footprint(0, 0, 100, looking())) == [
        pytest.approx(corner, abs=0.01) for corner in [(-100, 50), (100, 50), (100, -50), (-100, -50)]
    ]


def test_yaw_rotates_the_footprint_clockwise() -> None:
    # Facing east, the picture's upper left corner is in the north-east.
    assert metres(footprint(0, 0, 100, looking(yaw=90)))[0] == pytest.approx((50, 100), abs=0.01)


def test_a_tilted_camera_reaches_further_ahead() -> None:
    # 45° down with ±atan(0.5): the upper edge is tan(45° + 26.57°) = 3 heights ahead, the lower one a third.
    corners = metres(footprint(0, 0, 100, looking(pitch=-45)))
    assert [round(north, 1) for _, north in corners] == [300.0, 300.0, 33.3, 33.3]


def test_roll_lowers_the_right_side() -> None:
    # Rolled by 26.57° to the right, the ray of the right edge's middle is steeper, and the left one flatter.
    corners = metres(footprint(0, 0, 100, looking(pitch=-89.999, roll=90)))
    # With a quarter turn the picture's upper left corner is in the north-east, as with a yaw of 90°.
    assert corners[0] == pytest.approx((50, 100), abs=0.1)


@pytest.mark.parametrize("pitch", [0.0, -30.0, 45.0])
def test_a_photo_with_the_horizon_has_no_footprint(pitch: float) -> None:
    assert footprint(7, 50, 100, looking(pitch=pitch)) is None


@pytest.mark.parametrize("height_m", [0.0, -5.0, 1e9])
def test_an_invalid_height_has_no_footprint(height_m: float) -> None:
    assert footprint(7, 50, height_m, looking()) is None


def test_a_degree_of_longitude_is_shorter_away_from_the_equator() -> None:
    corners = footprint(10, 60, 100, looking())
    assert corners is not None
    # At 60° north a degree of longitude is 55,800 m.
    assert corners[1][0] - corners[0][0] == pytest.approx(200 / 55_800, rel=1e-3)
