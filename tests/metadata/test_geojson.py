"""Footprints, and how they are cut at the antimeridian."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from aerotask.metadata.geojson import footprint_of, footprint_of_all, footprint_of_bounds, polygon
from aerotask.metadata.photos.footprint import CameraView, footprint

Ring = list[list[float]]


def rings(geometry: dict[str, Any]) -> list[Ring]:
    """The outer rings, each of which is closed, anticlockwise, and within ±180 and ±90."""
    coordinates = geometry["coordinates"]
    polygons: list[list[Ring]] = coordinates if geometry["type"] == "MultiPolygon" else [coordinates]
    found = [each[0] for each in polygons]
    for ring in found:
        assert ring[0] == ring[-1]
        assert sum(a[0] * b[1] - b[0] * a[1] for a, b in itertools.pairwise(ring)) > 0
        assert all(abs(longitude) <= 180 and abs(latitude) <= 90 for longitude, latitude in ring)
    return found


def ends(ring: Ring) -> list[float]:
    """The westernmost and the easternmost longitude."""
    return [min(longitude for longitude, _ in ring), max(longitude for longitude, _ in ring)]


def test_a_footprint_that_crosses_the_antimeridian_is_cut_there() -> None:
    """Fiji in its UTM zone, whose central meridian is 177° at an easting of 500,000."""
    place = footprint_of_bounds("EPSG:32760", (700_000, 8_000_000, 900_000, 8_100_000))
    assert place is not None
    west, east = rings(place.outline)
    assert ends(west) == pytest.approx([178.87, 180], abs=0.02)
    assert ends(east) == pytest.approx([-180, -179.2], abs=0.05)
    assert place.centre["coordinates"][0] == pytest.approx(179.84, abs=0.05)
    assert place.bounds[2] == pytest.approx(180.8, abs=0.05)


def test_a_footprint_entirely_beyond_the_antimeridian_is_not_cut() -> None:
    place = footprint_of_bounds("EPSG:32760", (850_000, 8_000_000, 900_000, 8_100_000))
    assert place is not None
    [ring] = rings(place.outline)
    assert -180 < ends(ring)[0] < ends(ring)[1] < -179
    assert -180 < place.centre["coordinates"][0] < -179


def test_longitudes_may_range_from_0_to_360() -> None:
    place = footprint_of_bounds("EPSG:4326", (170, -20, 200, 10))
    assert place is not None
    assert [ends(ring) for ring in rings(place.outline)] == [[170, 180], [-180, -160]]
    assert place.centre["coordinates"] == [-175, -5]


@pytest.mark.parametrize(
    ("crs", "bounds"),
    [
        ("EPSG:4326", (-180, -90, 180, 90)),
        ("EPSG:4326", (0, -90, 360, 90)),
        ("EPSG:4326", (-180.25, -90.25, 179.75, 90.25)),
        ("EPSG:4326", (-180.0000001, -90, 180.0000001, 90)),
    ],
)
def test_the_whole_earth_is_one_rectangle(crs: str, bounds: tuple[float, float, float, float]) -> None:
    place = footprint_of_bounds(crs, bounds)
    assert place is not None
    assert sorted(map(tuple, rings(place.outline)[0][1:])) == [(-180, -90), (-180, 90), (180, -90), (180, 90)]


def test_the_whole_web_map_is_one_rectangle() -> None:
    edge = 20_037_508.342789244
    place = footprint_of_bounds("EPSG:3857", (-edge, -edge, edge, edge))
    assert place is not None
    [ring] = rings(place.outline)
    assert ends(ring) == pytest.approx([-180, 180])
    assert place.centre["coordinates"] == pytest.approx([0, 0])


def test_a_footprint_around_a_pole_spans_all_longitudes() -> None:
    place = footprint_of_bounds("EPSG:3031", (-2_000_000, -2_000_000, 2_000_000, 2_000_000))
    assert place is not None
    [ring] = rings(place.outline)
    assert ends(ring) == [-180, 180]
    assert min(latitude for _, latitude in ring) == -90
    assert max(latitude for _, latitude in ring) == pytest.approx(-64.2, abs=0.2)
    assert place.centre["coordinates"][1] == pytest.approx(-90)


@pytest.mark.parametrize("bounds", [(0, 0, 10, 200), (0, -91, 10, 0), (700, 0, 710, 10)])
def test_invalid_coordinates_have_no_footprint(bounds: tuple[float, float, float, float]) -> None:
    assert footprint_of_bounds("EPSG:4326", bounds) is None


def test_an_ordinary_outline_is_unchanged() -> None:
    place = footprint_of("EPSG:4326", [(7, 50), (7, 49), (9, 49), (9, 50)], (8, 49.5))
    assert place is not None
    assert place.outline == {
        "type": "Polygon",
        "coordinates": [[[7, 50], [7, 49], [9, 49], [9, 50], [7, 50]]],
    }
    assert (place.centre, place.bounds) == ({"type": "Point", "coordinates": [8, 49.5]}, (7, 49, 9, 50))


def test_layers_on_both_sides_of_the_antimeridian_are_near_each_other() -> None:
    place = footprint_of_all([(178, -19, 179, -18), (-179, -18, -178, -17), (179.5, -20, 180.5, -19)])
    assert list(place.bounds) == [178, -20, 182, -17]
    assert [ends(ring) for ring in rings(place.outline)] == [[178, 180], [-180, -178]]
    assert place.centre["coordinates"] == [180, -18.5]


def test_a_photo_beside_the_antimeridian_shows_ground_on_both_sides() -> None:
    corners = footprint(179.9999, -17, 100, CameraView(0, -90, 0, 60, 45))
    assert corners is not None
    west, east = rings(polygon(corners))
    assert (ends(west)[1], ends(east)[0]) == (180, -180)
    assert ends(east)[1] == pytest.approx(-179.99956, abs=1e-4)
