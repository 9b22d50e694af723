"""Bounding boxes: the window of a raster that they cover."""

from __future__ import annotations

import math
from typing import Any

import pytest
from rasterio.transform import Affine, from_origin
from rasterio.warp import transform_bounds
from rasterio.windows import from_bounds

from aerotask.domain.errors import InvalidInput
from aerotask.raster.export.area import Bounds, ExportArea, locate_box, parse_box
from aerotask.raster.profile import BandProfile, RasterProfile

UTM = from_origin(500_000, 5_000_000, 0.5, 0.5)
WORLD = from_origin(-180, 90, 0.5, 0.5)


def profile(
    *,
    transform: Affine | None = UTM,
    raster_crs: str | None = "EPSG:32632",
    size: tuple[int, int] = (400, 300),
) -> RasterProfile:
    band = BandProfile("uint8", None, "gray", None)
    geotransform = None if transform is None else transform.to_gdal()
    return RasterProfile(*size, (band,), raster_crs, geotransform, size, (), "")


def located(bounds: Bounds, crs: str = "EPSG:4326", **raster: Any) -> ExportArea:
    return locate_box(parse_box(bounds, crs), profile(**raster))


def corners(area: ExportArea) -> tuple[int, int, int, int]:
    """First column and row, and those after the last."""
    rows, cols = area.window
    return cols.start, rows.start, cols.stop, rows.stop


def refused(bounds: Bounds, crs: str = "EPSG:4326", **raster: Any) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        located(bounds, crs, **raster)
    return caught.value


def test_a_box_in_the_rasters_crs_covers_whole_pixels() -> None:
    area = located((500_010, 4_999_900, 500_020, 4_999_990), "EPSG:32632")
    assert (corners(area), area.is_clipped) == ((20, 20, 40, 200), False)


def test_pixels_that_are_covered_in_part_belong_to_it() -> None:
    assert corners(located((500_010.1, 4_999_989.9, 500_010.6, 4_999_990.1), "EPSG:32632")) == (
        20,
        19,
        22,
        21,
    )


def test_a_box_smaller_than_a_pixel_gives_that_pixel() -> None:
    assert corners(located((500_010.2, 4_999_990.2, 500_010.3, 4_999_990.3), "EPSG:32632")) == (
        20,
        19,
        21,
        20,
    )


@pytest.mark.parametrize("seed", range(5))
def test_a_box_in_degrees_is_transformed_with_its_edges(seed: int) -> None:
    west, south, east, north = transform_bounds(
        "EPSG:32632", "EPSG:4326", 500_020.2 + seed, 4_999_880.3 + seed, 500_170.1, 4_999_980.2 - seed
    )
    window = from_bounds(
        *transform_bounds("EPSG:4326", "EPSG:32632", west, south, east, north), transform=UTM
    )
    expected = (
        math.floor(window.col_off),
        math.floor(window.row_off),
        math.ceil(window.col_off + window.width),
        math.ceil(window.row_off + window.height),
    )
    assert corners(located((west, south, east, north))) == expected


def test_what_lies_beyond_the_raster_is_left_out() -> None:
    area = located((499_000, 4_999_950, 500_100, 6_000_000), "EPSG:32632")
    assert (corners(area), area.is_clipped) == ((0, 0, 200, 100), True)


def test_a_box_around_the_world_gives_the_whole_raster() -> None:
    area = located((-180, -90, 180, 90))
    assert (corners(area), area.is_clipped) == ((0, 0, 400, 300), True)


def test_a_rotated_raster_is_covered_by_columns_and_rows() -> None:
    turned = Affine(0.3, 0.4, 500_000, 0.4, -0.3, 5_000_000)  # by 53 degrees, pixels of half a metre
    area = located((500_050, 4_999_999, 500_051, 5_000_001), "EPSG:32632", transform=turned)
    inverse = ~turned
    points = [inverse * (x, y) for x in (500_050, 500_051) for y in (4_999_999, 5_000_001)]
    cols, rows = zip(*points, strict=True)
    assert corners(area) == (
        math.floor(min(cols)),
        math.floor(min(rows)),
        math.ceil(max(cols)),
        math.ceil(max(rows)),
    )


def test_a_south_up_raster_has_its_first_row_in_the_south() -> None:
    south_up = Affine(0.5, 0, 500_000, 0, 0.5, 5_000_000)
    area = located((500_010, 5_000_010, 500_020, 5_000_030), "EPSG:32632", transform=south_up)
    assert corners(area) == (20, 20, 40, 60)


PACIFIC = {"transform": from_origin(150, 10, 0.5, 0.5), "raster_crs": "EPSG:4326", "size": (120, 40)}
"""From 150 to 210 degrees east."""


def test_longitudes_are_those_of_the_raster_by_whole_turns() -> None:
    area = located((-170, -5, -160, 5), **PACIFIC)
    assert (corners(area), area.is_clipped) == ((80, 10, 100, 30), False)


def test_a_box_may_cross_the_antimeridian() -> None:
    area = located((170, -5, -160, 5), **PACIFIC)
    assert (corners(area), area.is_clipped) == ((40, 10, 100, 30), False)


def test_a_box_across_the_antimeridian_in_metres() -> None:
    across = {"transform": from_origin(150_000, 5_700_000, 500, 500), "raster_crs": "EPSG:32601"}
    area = located((179.5, 51, -179.5, 51.2), **across)
    expected = from_bounds(
        *transform_bounds("EPSG:4326", "EPSG:32601", 179.5, 51, 180.5, 51.2), transform=across["transform"]
    )
    _, cols = area.window
    assert (cols.start, cols.stop) == (
        math.floor(expected.col_off),
        math.ceil(expected.col_off + expected.width),
    )
    assert 130 < cols.stop - cols.start < 160


def test_a_box_that_would_be_two_parts_of_the_raster_is_refused() -> None:
    error = refused((170, -5, -170, 5), transform=WORLD, raster_crs="EPSG:4326", size=(720, 360))
    assert error.code == "invalid-bbox"
    assert "two separate parts of the raster (columns 0 to 20 and columns 700 to 720)" in error.message


def test_all_longitudes_are_one_part_from_wherever_they_are_counted() -> None:
    from_greenwich = from_origin(0, 90, 0.5, 0.5)
    area = located((-180, 0, 180, 10), transform=from_greenwich, raster_crs="EPSG:4326", size=(720, 360))
    assert (corners(area), area.is_clipped) == ((0, 160, 720, 180), False)


def test_a_box_beside_the_raster_is_refused_with_what_the_raster_covers() -> None:
    error = refused((500_300, 4_999_900, 500_400, 4_999_950), "EPSG:32632")
    assert error.code == "outside-raster"
    assert error.message == (
        "The bounding box lies outside of the raster, which covers x from 500000 to 500200 and y from 4999850 to 5000000 "
        "in 'EPSG:32632'."
    )
    assert refused((12, 45, 13, 46)).code == "outside-raster"
    # Touching isn't covering.
    assert refused((500_200, 4_999_900, 500_400, 4_999_950), "EPSG:32632").code == "outside-raster"


@pytest.mark.parametrize(
    ("raster", "words"),
    [
        ({"raster_crs": None}, "no coordinate system"),
        ({"transform": None}, "no geotransform"),
        ({"raster_crs": 'LOCAL_CS["site",UNIT["metre",1]]'}, "no known relation"),
    ],
)
def test_a_raster_without_a_place_on_the_earth_is_refused(raster: dict[str, Any], words: str) -> None:
    error = refused((9, 45, 10, 46), **raster)
    assert (error.code, words in error.message) == ("not-georeferenced", True)


@pytest.mark.parametrize(
    ("bounds", "crs", "words"),
    [
        ((500_000, 4_999_900, 500_100, 5_000_000), "EPSG:4326", "name their coordinate system in 'bboxCrs'"),
        ((9, 46, 10, 45), "EPSG:4326", "the smallest y must be below the largest"),
        ((9, 45, 9, 46), "EPSG:4326", "west and east must differ"),
        ((-200, 45, 200, 46), "EPSG:4326", "by 360 degrees at most"),
        ((2, 0, 1, 1), "EPSG:32632", "the smallest x must be below the largest"),
        ((0, 0, 1, 1), "EPSG:99999", "no coordinate system 'EPSG:99999'"),
        ((0, 0, 1, 1), "EPSG:4978", "has no map coordinates"),
    ],
)
def test_numbers_that_are_no_box_are_refused(bounds: Bounds, crs: str, words: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_box(bounds, crs)
    assert caught.value.code == "invalid-bbox"
    assert words in caught.value.message
