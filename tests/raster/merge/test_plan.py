"""Merge plan: shifts and common areas, by hand."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.raster.merge.test_checks import FIRST

from aerotask.domain.errors import InvalidInput
from aerotask.raster.merge.plan import OpticalCentrePx, SourceBand, common_area, plan_merge
from aerotask.raster.profile import RasterProfile

POINT = "principal point"
UNPLACED = replace(FIRST, crs=None, geotransform=None)


def source(name: str, profile: RasterProfile = UNPLACED, centre: OpticalCentrePx | None = None) -> SourceBand:
    return SourceBand(name, Path(name), profile, centre)


def at(x: float, y: float, kind: str = POINT) -> OpticalCentrePx:
    return OpticalCentrePx(kind, x, y)


def test_photos_are_moved_so_that_their_centres_coincide() -> None:
    # The second shows everything 3 to the right and 2 up, the third 1 to the left and 4 down.
    shape, offsets = common_area((100, 200), [at(100, 50), at(103, 48), at(99, 54)])
    assert shape == (100 - 6, 200 - 4)
    assert offsets == ((2, 1), (0, 4), (6, 0))


def test_shifts_are_rounded_to_whole_pixels_with_halves_upwards() -> None:
    _, offsets = common_area((100, 100), [at(0, 0), at(0.49, 0.5), at(-0.5, -0.51)])
    assert offsets == ((1, 0), (2, 0), (0, 0))


def test_the_same_centre_everywhere_moves_nothing() -> None:
    assert common_area((10, 20), [at(7.3, 2.2)] * 3) == ((10, 20), ((0, 0),) * 3)


numbers = st.floats(-30, 30)


@settings(max_examples=50)
@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=6))
def test_every_band_stays_within_its_photo(points: list[tuple[float, float]]) -> None:
    shape, offsets = common_area((100, 200), [at(x, y) for x, y in points])
    assert all(
        row >= 0 and row + shape[0] <= 100 and col >= 0 and col + shape[1] <= 200 for row, col in offsets
    )
    assert min(row for row, _ in offsets) == min(col for _, col in offsets) == 0


def test_a_plan_has_shifts_and_names_with_their_sources() -> None:
    plan = plan_merge([source("red.tif", centre=at(320, 240)), source("nir.tif", centre=at(310.2, 245.1))])
    assert (plan.shape_yx, plan.offsets) == ((475, 630), ((0, 10), (5, 0)))
    assert [plan.shift_of(number) for number in (0, 1)] == [(0, 0), (-10, 5)]
    assert (plan.centre_kind, plan.is_shifted, plan.warnings) == (POINT, True, ())
    assert [band.name for band in plan.bands] == ["red", "nir"]


def test_georeferenced_files_are_never_shifted() -> None:
    plan = plan_merge([source("red.tif", FIRST, at(320, 240)), source("nir.tif", FIRST, at(300, 240))])
    assert (plan.shape_yx, plan.centre_kind, plan.is_shifted) == ((480, 640), None, False)


def test_files_without_metadata_are_stacked_with_a_warning() -> None:
    plan = plan_merge([source("red.tif"), source("nir.tif")])
    assert (plan.shape_yx, plan.centre_kind) == ((480, 640), None)
    assert plan.warnings == (
        "The files have neither georeference nor camera metadata; they are stacked as they are.",
    )


def test_an_unknown_band_causes_a_warning() -> None:
    plan = plan_merge([source("red.tif", FIRST), source("a/red.tif", FIRST), source("x.tif", FIRST)])
    assert [band.name for band in plan.bands] == ["red", "red_2", "x"]
    assert "'a/red.tif', 'x.tif'" in plan.warnings[0]


@pytest.mark.parametrize(
    ("second", "says"),
    [
        (None, "has no principal point in its camera metadata"),
        (at(1, 1, "relative optical centre"), "the two can't be compared"),
    ],
)
def test_centres_must_be_comparable(second: OpticalCentrePx | None, says: str) -> None:
    with pytest.raises(InvalidInput, match=says) as refusal:
        plan_merge([source("a.tif", centre=at(320, 240)), source("b.tif", centre=second)])
    assert (refusal.value.code, refusal.value.errors[0].pointer) == ("camera-mismatch", "/params/paths/1")


def test_photos_with_little_overlap_are_refused() -> None:
    plan_merge([source("red.tif", centre=at(160, 240)), source("nir.tif", centre=at(480, 240))])
    with pytest.raises(InvalidInput, match="319 × 480 of 640 × 480") as refusal:
        plan_merge([source("red.tif", centre=at(160, 240)), source("nir.tif", centre=at(481, 240))])
    assert refusal.value.code == "shifts-too-large"


def test_a_plan_names_every_fault_at_once() -> None:
    with pytest.raises(InvalidInput) as refusal:
        plan_merge([source("a.tif", centre=at(320, 240)), source("b.tif", replace(UNPLACED, width=9))])
    assert [fault.code for fault in refusal.value.errors] == ["size-mismatch", "camera-mismatch"]
