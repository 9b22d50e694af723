"""Odd features in vector tiles, counted by decoding every tile with pmtiles and mapbox-vector-tile."""

from __future__ import annotations

import gzip
import json
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mapbox_vector_tile
import numpy as np
import pyogrio
import pyogrio.raw
import pytest
import shapely
from pmtiles.reader import MmapSource, Reader, all_tiles
from pmtiles.tile import zxy_to_tileid
from shapely.geometry import shape

from aerotask.derivatives.gpkg import build_gpkg
from aerotask.derivatives.pmtiles import build_pmtiles
from aerotask.derivatives.vector_tiles import zooms
from aerotask.derivatives.vector_tiles.geometries import LayerProjection, Undrawable, drawables
from aerotask.domain.errors import InvalidInput
from aerotask.metadata.vector import extract_vector

PART_STEP = 2**32
BOW_TIE = [[[10, 45], [10.01, 45.01], [10.01, 45], [10, 45.01], [10, 45]]]


def square(west: float, south: float, side: float) -> list[list[list[float]]]:
    east, north = west + side, south + side
    return [[[west, south], [east, south], [east, north], [west, north], [west, south]]]


def feature(kind: str, coordinates: Any, **properties: Any) -> dict[str, Any]:
    geometry = {"type": kind, "coordinates": coordinates}
    return {"type": "Feature", "properties": properties, "geometry": geometry}


def geojson(path: Path, *features: dict[str, Any], **members: Any) -> Path:
    path.write_text(json.dumps({"type": "FeatureCollection", **members, "features": features}))
    return path


def build(source: Path) -> tuple[Path, dict[str, Any]]:
    target = source.parent / "made.pmtiles"
    target.unlink(missing_ok=True)
    return target, build_pmtiles(source, target, on_progress=lambda _share: None)


def refusal(source: Path) -> InvalidInput:
    with pytest.raises(InvalidInput) as refused:
        build(source)
    assert str(source.parent) not in refused.value.message
    return refused.value


def read_tiles(path: Path) -> Iterator[tuple[tuple[int, int, int], dict[str, Any]]]:
    with path.open("rb") as content:
        for zxy, tile in all_tiles(MmapSource(content)):
            yield (
                zxy,
                mapbox_vector_tile.decode(
                    gzip.decompress(tile), default_options={"geojson": True, "y_coord_down": True}
                ),
            )


def ids_by_zoom(path: Path) -> dict[int, set[int]]:
    """Ids of the distinct features at each zoom."""
    found: dict[int, set[int]] = defaultdict(set)
    for (zoom, _, _), layers in read_tiles(path):
        for layer in layers.values():
            found[zoom] |= {each["id"] % PART_STEP for each in layer["features"]}
    return found


def area_deg2(path: Path, zoom: int, feature_id: int) -> float:
    """Area of a feature in the tiles of a zoom, without their margins, in square degrees near its latitude."""
    total = 0.0
    for (tile_zoom, _, row), layers in read_tiles(path):
        if tile_zoom != zoom:
            continue
        side = 360 / 2**zoom
        latitude = np.degrees(np.arctan(np.sinh(np.pi * (1 - 2 * (row + 0.5) / 2**zoom))))
        for layer in layers.values():
            inside = shapely.box(0, 0, layer["extent"], layer["extent"])
            for each in layer["features"]:
                if each["id"] % PART_STEP == feature_id:
                    part = shapely.intersection(shapely.make_valid(shape(each["geometry"])), inside)
                    total += part.area * (side / layer["extent"]) ** 2 * float(np.cos(np.radians(latitude)))
    return total


def header_of(path: Path) -> dict[str, Any]:
    with path.open("rb") as content:
        return dict(Reader(MmapSource(content)).header())


def metadata_of(path: Path) -> dict[str, Any]:
    with path.open("rb") as content:
        return dict(Reader(MmapSource(content)).metadata())


def test_a_bow_tie_among_squares_is_drawn_like_them(tmp_path: Path) -> None:
    squares = [feature("Polygon", square(10 + number / 50, 45, 0.01), number=number) for number in range(5)]
    tiles, made = build(geojson(tmp_path / "a.geojson", *squares, feature("Polygon", BOW_TIE, number=99)))
    assert ids_by_zoom(tiles)[made["maxZoom"]] == {0, 1, 2, 3, 4, 5}
    # The two triangles have half the area of the square around them.
    assert area_deg2(tiles, 14, 5) == pytest.approx(0.5 * 0.01**2, rel=0.01)
    assert made["warnings"] == [
        (
            "Layer 'a': 1 of 6 features (id 5) repaired for the tiles: rings that cross themselves, are not closed or are "
            "doubled. The GeoPackage has them as they are."
        )
    ]


@pytest.mark.parametrize(
    ("rings", "area"),
    [
        (BOW_TIE, 0.5e-4),
        (square(10, 45, 0.01) * 2, 1e-4),
        ([square(10, 45, 0.01)[0][:3]], 0.5e-4),
        ([*square(10, 45, 0.01), *square(10.002, 45.002, 0.006)], 0.64e-4),
        ([*square(10, 45, 0.01), *square(10.002, 45.002, 0.006) * 2], 0.64e-4),
    ],
    ids=["bow-tie", "doubled ring", "unclosed ring", "valid with a hole", "doubled hole"],
)
def test_polygons_are_made_valid(tmp_path: Path, rings: list[list[list[float]]], area: float) -> None:
    tiles, made = build(geojson(tmp_path / "a.geojson", feature("Polygon", rings)))
    assert ids_by_zoom(tiles)[16] == {0}
    assert area_deg2(tiles, 14, 0) == pytest.approx(area, rel=0.01)
    assert len(made["warnings"]) == (rings[1:] != square(10.002, 45.002, 0.006))


def test_a_polygon_without_area_is_drawn_as_a_line(tmp_path: Path) -> None:
    flat = [[[10, 45], [10.01, 45], [10, 45], [10, 45]]]
    tiles, _ = build(geojson(tmp_path / "a.geojson", feature("Polygon", flat)))
    kinds = {each["geometry"]["type"] for _, layers in read_tiles(tiles) for each in layers["a"]["features"]}
    assert kinds == {"LineString"}


def test_features_that_no_map_can_show_are_counted_and_the_rest_is_drawn(tmp_path: Path) -> None:
    places = [[10, 45], [0, 89.9], [0, 91], [10.1, 45.1], [0, -90]]
    features = [feature("Point", place) for place in places]
    tiles, made = build(geojson(tmp_path / "a.geojson", *features, {**features[0], "geometry": None}))
    assert ids_by_zoom(tiles)[16] == {0, 3}
    assert made["warnings"] == [
        (
            "Layer 'a': 2 of 6 features (ids 1, 4) left out of the tiles: a position beyond 85.05° of latitude, where maps in "
            "Web Mercator end."
        ),
        (
            "Layer 'a': 1 of 6 features (id 2) left out of the tiles: coordinates that can't be longitudes and latitudes in "
            "degrees."
        ),
        "Layer 'a': 1 of 6 features (id 5) left out of the tiles: no geometry.",
    ]


@pytest.mark.parametrize(
    ("features", "code"),
    [
        ([feature("Point", [0, 89.9])], "nothing-to-show"),
        ([{"type": "Feature", "properties": {}, "geometry": None}], "nothing-to-show"),
        ([feature("Polygon", square(10, 45, 1e-8))], "nothing-to-show"),
        ([feature("Polygon", square(600_000, 5_000_000, 50))], "not-georeferenced"),
        ([feature("Point", [600_000 + number, 5_000_000]) for number in range(9)], "not-georeferenced"),
    ],
)
def test_a_file_of_which_nothing_can_be_drawn_is_refused_with_the_reason(
    tmp_path: Path, features: list[dict[str, Any]], code: str
) -> None:
    assert refusal(geojson(tmp_path / "a.geojson", *features)).code == code


def test_metres_without_a_coordinate_system_are_no_degrees_anywhere(tmp_path: Path) -> None:
    source = geojson(tmp_path / "parcels.geojson", feature("Polygon", square(600_000, 5_000_000, 50)))
    told = (
        "The coordinates of layer 'parcels', such as x = 600,050 and y = 5,000,050, can't be longitudes and latitudes in "
        "degrees, and the file names no other coordinate system. Transform them to WGS 84 (EPSG:4326), or upload a "
        "GeoPackage or a Shapefile with a .prj that names theirs."
    )
    assert refusal(source).message == told
    package = tmp_path / "made.gpkg"
    made = build_gpkg(source, package, on_progress=lambda _share: None)
    assert (made["warnings"], pyogrio.read_info(package)["crs"]) == ([told], None)
    found = extract_vector(source, "geojson")
    assert (found.footprint, found.properties["warnings"]) == (None, [told])
    assert found.properties["layers"][0]["crs"] is None


def test_metres_with_a_coordinate_system_are_drawn_where_they_are(tmp_path: Path) -> None:
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32632"}}
    source = geojson(tmp_path / "a.geojson", feature("Polygon", square(600_000, 5_000_000, 500)), crs=crs)
    tiles, made = build(source)
    assert (ids_by_zoom(tiles)[16], made["warnings"]) == ({0}, [])
    # By PROJ's cs2cs: 600000 5000000 in EPSG:32632.
    assert header_of(tiles)["min_lon_e7"] / 1e7 == pytest.approx(10.2726, abs=1e-3)
    assert header_of(tiles)["min_lat_e7"] / 1e7 == pytest.approx(45.1465, abs=1e-3)


ACROSS = {
    "beyond 180": ("Polygon", [[[179.95, 0], [180.05, 0], [180.05, 0.05], [179.95, 0.05], [179.95, 0]]]),
    "beyond -180": (
        "Polygon",
        [[[-180.05, 0], [-179.95, 0], [-179.95, 0.05], [-180.05, 0.05], [-180.05, 0]]],
    ),
    "a jump": ("Polygon", [[[179.95, 0], [-179.95, 0], [-179.95, 0.05], [179.95, 0.05], [179.95, 0]]]),
    "cut": ("MultiPolygon", [square(179.95, 0, 0.05), square(-180, 0, 0.05)]),
}


@pytest.mark.parametrize("way", ACROSS)
def test_a_small_polygon_across_the_antimeridian_is_cut_there_and_drawn_in_detail(
    tmp_path: Path, way: str
) -> None:
    started_s = time.process_time()
    tiles, made = build(geojson(tmp_path / "a.geojson", feature(*ACROSS[way])))
    assert time.process_time() - started_s < 20
    assert (made["maxZoom"], made["warnings"]) == (16, [])
    assert {zxy[1] for zxy, _ in read_tiles(tiles) if zxy[0] == 10} == {0, 1023}
    assert ids_by_zoom(tiles)[16] == {0}
    assert area_deg2(tiles, 12, 0) == pytest.approx(0.1 * 0.05, rel=0.02)
    header = header_of(tiles)
    assert abs(header["center_lon_e7"]) == 1_800_000_000
    assert header["center_zoom"] == 11


def test_features_wholly_beyond_the_antimeridian_are_drawn_on_its_other_side(tmp_path: Path) -> None:
    places = [[190, 10], [-190, 10], [359.5, 10], [180, 10]]
    tiles, _ = build(geojson(tmp_path / "a.geojson", *(feature("Point", place) for place in places)))
    found: dict[int, set[int]] = defaultdict(set)
    for (zoom, column, _), layers in read_tiles(tiles):
        if zoom == 5:  # 11.25° wide
            for each in layers["a"]["features"]:
                found[each["id"]].add(column)
    # 190° is −170°, −190° is 170°, 359.5° is −0.5°; margins of tiles hold what is next to them.
    assert 0 in found[0]
    assert 31 in found[1]
    assert 15 in found[2]
    assert found[3] & {0, 31}


def test_a_world_wide_polygon_stays_one() -> None:
    world = shapely.box(-180, -90, 180, 90)
    [drawn] = drawables([shapely.to_wkb(world)], LayerProjection.of("EPSG:4326"))
    [part] = drawn.parts
    assert part.bounds == pytest.approx((-180, -85.0511, 180, 85.0511), abs=1e-4)
    assert part.area == pytest.approx(360 * 2 * 85.0511, rel=1e-5)
    assert zooms.max_zoom(360) == 7


def test_a_ring_around_a_pole_reaches_to_the_edge_of_the_map() -> None:
    ring = shapely.Point(0, 0).buffer(2_000_000).exterior
    [drawn] = drawables([shapely.to_wkb(shapely.polygons(ring))], LayerProjection.of("EPSG:3031"))
    [part] = drawn.parts
    assert part.is_valid
    west, south, east, north = part.bounds
    assert (west, east) == pytest.approx((-180, 180), abs=0.1)
    assert south == pytest.approx(-85.0511, abs=1e-3)
    assert north == pytest.approx(-71.6, abs=0.5)


def test_far_islands_of_one_feature_do_not_cost_the_sea_between_them(tmp_path: Path) -> None:
    islands = [square(-5, 47, 0.05), square(55, -21, 0.05)]
    source = geojson(tmp_path / "a.geojson", feature("MultiPolygon", islands, name="France"))
    tiles, made = build(source)
    assert (ids_by_zoom(tiles)[made["maxZoom"]], made["warnings"]) == ({0}, [])
    names = {
        each["properties"]["name"] for _, layers in read_tiles(tiles) for each in layers["a"]["features"]
    }
    assert names == {"France"}
    assert area_deg2(tiles, 9, 0) == pytest.approx(2 * 0.05**2, rel=0.05)


def test_a_build_that_would_be_too_much_work_ends_at_a_coarser_zoom_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(3)
    points = [feature("Point", place) for place in (rng.random((300, 2)) * 0.01 + [10, 45]).tolist()]
    source = geojson(tmp_path / "a.geojson", *points)
    monkeypatch.setattr(zooms, "BASE_WORK", 3100.0)
    monkeypatch.setattr(zooms, "WORK_PER_BYTE", 0.0)
    tiles, made = build(source)
    # 300 features in a tile each at the zooms 0 to 9.
    assert made["maxZoom"] == header_of(tiles)["max_zoom"] == 9
    assert ids_by_zoom(tiles)[9] == set(range(300))
    assert made["warnings"] == [
        (
            "The tiles end at zoom 9 instead of 16: with all zooms, features would have to be cut 5,100 times, more than the "
            "3,100 times that a build from a file of this size may. Split the file for more detail."
        )
    ]
    monkeypatch.setattr(zooms, "BASE_WORK", 100.0)
    assert refusal(source).code == "vector-too-large"


def test_the_archive_says_its_name_and_where_its_middle_is(tmp_path: Path) -> None:
    source = geojson(tmp_path / "field boundaries.geojson", feature("Polygon", square(10, 45, 0.02)))
    tiles, made = build(source)
    header, metadata = header_of(tiles), metadata_of(tiles)
    assert metadata["name"] == "field boundaries"
    assert [layer["id"] for layer in metadata["vector_layers"]] == ["field boundaries"]
    assert "" not in {metadata.get("description"), metadata["vector_layers"][0].get("description")}
    assert metadata["center"] == "10.0100000,45.0100000,14"
    assert (header["center_lon_e7"], header["center_lat_e7"], header["center_zoom"]) == (
        100_100_000,
        450_100_000,
        14,
    )
    assert (header["min_zoom"], header["max_zoom"]) == (made["minZoom"], made["maxZoom"]) == (2, 16)
    assert [header[name] for name in ("min_lon_e7", "min_lat_e7", "max_lon_e7", "max_lat_e7")] == [
        100_000_000,
        450_000_000,
        100_200_000,
        450_200_000,
    ]


@pytest.mark.parametrize("name", ["OGC_FID", "ogc_fid", "fid", "mvt_id_1"])
def test_an_attribute_named_like_the_ids_costs_no_feature(tmp_path: Path, name: str) -> None:
    features = [feature("Point", [10, 45 + number / 100], **{name: 7 + number}) for number in range(3)]
    tiles, made = build(geojson(tmp_path / "a.geojson", *features))
    shown_as = f"{name}_1" if name.lower() == "ogc_fid" else name
    values = {
        each["properties"][shown_as] for _, layers in read_tiles(tiles) for each in layers["a"]["features"]
    }
    assert (values, len(ids_by_zoom(tiles)[16])) == ({7, 8, 9}, 3)
    assert len(made["warnings"]) == (shown_as != name)


def test_ids_of_the_source_are_those_in_the_tiles_and_warnings(tmp_path: Path) -> None:
    source = tmp_path / "a.gpkg"
    geometries = [shapely.Point(10, 45), shapely.Point(0, 89), shapely.Point(10, 45.1)]
    pyogrio.raw.write(
        source,
        shapely.to_wkb(geometries),
        field_data=[np.arange(3)],
        fields=["number"],
        driver="GPKG",
        layer="surveyed points",
        geometry_type="Point",
        crs="EPSG:4326",
    )
    tiles, made = build(source)
    assert ids_by_zoom(tiles)[16] == {1, 3}
    assert made["warnings"][0].startswith("Layer 'surveyed points': 1 of 3 features (id 2) left out")


def test_geometries_of_several_dimensions_in_one_feature_are_all_drawn(tmp_path: Path) -> None:
    parts = [
        {"type": "Point", "coordinates": [10, 45]},
        {"type": "LineString", "coordinates": [[10, 45], [10.01, 45.01]]},
        {"type": "Polygon", "coordinates": square(10, 45, 0.01)},
    ]
    collection = {
        "type": "Feature",
        "properties": {},
        "geometry": {"type": "GeometryCollection", "geometries": parts},
    }
    tiles, made = build(geojson(tmp_path / "a.geojson", collection))
    kinds = {
        each["geometry"]["type"]
        for zxy, layers in read_tiles(tiles)
        for each in layers["a"]["features"]
        if zxy[0] == 14
    }
    assert kinds == {"Point", "LineString", "Polygon"}
    assert (ids_by_zoom(tiles)[16], made["warnings"]) == ({0}, [])


def test_what_can_not_be_read_as_a_geometry_is_counted() -> None:
    found = drawables(
        [b"\x01\x03", None, shapely.to_wkb(shapely.Point(1, 2))], LayerProjection.of("EPSG:4326")
    )
    assert [each.undrawable for each in found] == [Undrawable.UNREADABLE, Undrawable.NO_GEOMETRY, None]


def test_features_too_small_for_the_tiles_are_counted(tmp_path: Path) -> None:
    source = tmp_path / "a.gpkg"
    for layer, side in (("seen", 0.001), ("unseen", 1e-8)):
        pyogrio.raw.write(
            source,
            shapely.to_wkb([shapely.box(10, 45, 10 + side, 45 + side)]),
            field_data=[],
            fields=[],
            driver="GPKG",
            layer=layer,
            geometry_type="Polygon",
            crs="EPSG:4326",
            append=layer == "unseen",
        )
    tiles, made = build(source)
    assert ids_by_zoom(tiles)[16] == {1}
    assert made["layers"] == ["seen", "unseen"]
    assert made["warnings"] == [
        (
            "Layer 'unseen': 1 of 1 features (id 1) left out of the tiles: too small even for the most detailed zoom, or "
            "too many in one place. The GeoPackage has all."
        )
    ]


def test_tiles_are_sorted_as_the_format_asks(tmp_path: Path) -> None:
    tiles, _ = build(geojson(tmp_path / "a.geojson", feature("Polygon", square(10, 45, 0.1))))
    order = [zxy_to_tileid(*zxy) for zxy, _ in read_tiles(tiles)]
    assert order == sorted(order)
    assert header_of(tiles)["clustered"]
