"""Files of every kind that the field writes: the index and the builds have one opinion of each."""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyogrio
import pytest
from tests.derivatives.test_vector_tiles import feature, geojson, ids_by_zoom, metadata_of, square
from tests.metadata.vectors import write_points

from aerotask.derivatives.gpkg import build_gpkg
from aerotask.derivatives.kinds import DerivativeKind, kinds_by_name, kinds_of
from aerotask.derivatives.pmtiles import build_pmtiles
from aerotask.domain.errors import InvalidInput
from aerotask.metadata.extract import extract_metadata

POINTS = [feature("Point", [10 + number / 100, 45], number=number) for number in range(3)]
GPX = """<?xml version="1.0"?>
<gpx version="1.1" creator="test" xmlns="http://www.topografix.com/GPX/1/1">
  <wpt lat="45" lon="10"><name>Home</name></wpt>
  <trk><name>Flight</name><trkseg>
    <trkpt lat="45" lon="10"/><trkpt lat="45.01" lon="10.01"/><trkpt lat="45.02" lon="10"/>
  </trkseg></trk>
</gpx>"""


def lines(path: Path) -> Path:
    path.write_text("\n".join(json.dumps(each) for each in POINTS) + "\n")
    return path


def records(path: Path) -> Path:
    """Text sequence of RFC 8142."""
    path.write_text("".join(f"\x1e{json.dumps(each)}\n" for each in POINTS))
    return path


def gpx(path: Path) -> Path:
    path.write_text(GPX)
    return path


def table(path: Path, text: str = "name;Latitude;Longitude\na;45;10\nb;45.1;10.1\nc;;\n") -> Path:
    path.write_text(text)
    return path


def packed(path: Path, *left_out: str, stem: str = "plots/field 7") -> Path:
    write_points(path.with_name("unpacked.shp"))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for suffix in ("shp", "shx", "dbf", "prj"):
            if suffix not in left_out:
                archive.write(path.with_name(f"unpacked.{suffix}"), f"{stem}.{suffix}")
        archive.writestr("__MACOSX/plots/._field 7.shp", b"litter")
    return path


def package(path: Path) -> Path:
    write_points(path, layer="source")
    return write_points(path, layer="layer-0", append=True)


def named(path: Path) -> Path:
    return geojson(path, *POINTS, name="flight plan")


LAYERS: dict[str, tuple[Callable[[Path], Path], dict[str, int]]] = {
    "way points.geojson": (lines, {"way points": 3}),
    "way points.geojsonl": (lines, {"way points": 3}),
    "way points.ndjson": (lines, {"way points": 3}),
    "records.geojsons": (records, {"records": 3}),
    "records.geojson": (records, {"records": 3}),
    "named.geojson": (named, {"flight plan": 3}),
    "plain.geojson": (lambda path: geojson(path, *POINTS), {"plain": 3}),
    "a.GeoJSON": (lambda path: geojson(path, *POINTS), {"a": 3}),
    "flight.gpx": (gpx, {"waypoints": 1, "tracks": 1, "track_points": 3}),
    "log.csv": (table, {"log": 3}),
    "plots.zip": (packed, {"field 7": 2}),
    "plots.shz": (packed, {"field 7": 2}),
    "points.shp": (write_points, {"points": 2}),
    "points.fgb": (write_points, {"points": 2}),
    "two.gpkg": (package, {"source": 2, "layer-0": 2}),
}


@pytest.mark.parametrize("name", LAYERS)
def test_index_and_builds_find_the_same_layers_under_their_own_names(tmp_path: Path, name: str) -> None:
    write, layers = LAYERS[name]
    source = write(tmp_path / name)
    found = extract_metadata(source)
    assert found.type == "vector"
    assert {each["name"]: each["featureCount"] for each in found.properties["layers"]} == layers
    assert found.properties["layerCount"] == len(layers)
    assert {each["crs"] for each in found.properties["layers"]} == {"EPSG:4326"}
    assert found.polygon is not None
    assert kinds_of(name, found.type, found.properties) == (DerivativeKind.PMTILES, DerivativeKind.GPKG)

    (tmp_path / "made").mkdir()
    made = build_gpkg(source, tmp_path / "made" / "a.gpkg", on_progress=lambda _share: None)
    assert {each["name"]: each["features"] for each in made["layers"]} == layers
    assert {str(layer) for layer, _ in pyogrio.list_layers(tmp_path / "made" / "a.gpkg")} == set(layers)
    tiles = tmp_path / "made" / "a.pmtiles"
    made = build_pmtiles(source, tiles, on_progress=lambda _share: None)
    assert made["layers"] == [each["id"] for each in metadata_of(tiles)["vector_layers"]] == list(layers)
    assert metadata_of(tiles)["name"] == source.stem


def test_rows_without_a_position_are_counted(tmp_path: Path) -> None:
    tiles = tmp_path / "a.pmtiles"
    made = build_pmtiles(table(tmp_path / "log.csv"), tiles, on_progress=lambda _share: None)
    assert made["warnings"] == ["Layer 'log': 1 of 3 features (id 3) left out of the tiles: no geometry."]
    assert ids_by_zoom(tiles)[16] == {1, 2}


PLAIN: dict[str, Callable[[Path], Any]] = {
    "sizes.csv": lambda path: path.write_text("name,width\na,7\n"),
    "empty.csv": lambda path: path.write_text(""),
    "binary.csv": lambda path: path.write_bytes(b"lat,lon\0"),
    "log.ndjson": lambda path: path.write_text('{"level": "info"}\n{"level": "warn"}\n'),
    "photos.zip": lambda path: zipfile.ZipFile(path, "w").writestr("a.jpg", b"x"),
    "no index.zip": lambda path: packed(path, "shx"),
    "cut.zip": lambda path: path.write_bytes(b"PK\x03\x04" + b"\0" * 60),
}


@pytest.mark.parametrize("name", PLAIN)
def test_tables_and_archives_without_positions_are_plain_files(tmp_path: Path, name: str) -> None:
    PLAIN[name](tmp_path / name)
    found = extract_metadata(tmp_path / name)
    assert (found.type, dict(found.properties)) == ("generic", {})
    assert kinds_by_name(name) == kinds_of(name, found.type, {}) == ()
    with pytest.raises(InvalidInput) as refused:
        build_pmtiles(tmp_path / name, tmp_path / "a.pmtiles", on_progress=lambda _share: None)
    assert refused.value.code == "unreadable-vector"


def square_dxf(path: Path) -> Path:
    return write_points(path, ((600_000.0, 5_000_000.0), (600_050.0, 5_000_050.0)))


def without_prj(path: Path) -> Path:
    write_points(path)
    path.with_suffix(".prj").unlink()
    return path


NOWHERE: dict[str, Callable[[Path], Path]] = {
    "plan.dxf": square_dxf,
    "points.shp": without_prj,
    "plots.zip": lambda path: packed(path, "prj"),
    "metres.geojson": lambda path: geojson(path, feature("Polygon", square(600_000, 5_000_000, 50))),
    "metres.csv": lambda path: table(path, "lat,lon\n5000000,600000\n5000001,600000\n"),
    "metres.ndjson": lambda path: table(path, f"{json.dumps(feature('Point', [600_000, 5_000_000]))}\n" * 2),
}


@pytest.mark.parametrize("name", NOWHERE)
def test_files_without_a_coordinate_system_are_vectors_but_on_no_map(tmp_path: Path, name: str) -> None:
    source = NOWHERE[name](tmp_path / name)
    found = extract_metadata(source)
    assert (found.type, found.point, found.polygon) == ("vector", None, None)
    assert {each["crs"] for each in found.properties["layers"]} == {None}
    with pytest.raises(InvalidInput) as refused:
        build_pmtiles(source, tmp_path / "a.pmtiles", on_progress=lambda _share: None)
    assert refused.value.code == "not-georeferenced"
    made = build_gpkg(source, tmp_path / "a.gpkg", on_progress=lambda _share: None)
    assert {each["crs"] for each in made["layers"]} == {None}


DAMAGED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "cut.shp": (lambda path: path.write_bytes(write_points(path).read_bytes()[:-10]), "unreadable-vector"),
    "alone.shp": (lambda path: write_points(path).with_suffix(".dbf").unlink(), "missing-side-file"),
    "cut.gpx": (lambda path: path.write_text(GPX[:250]), "unreadable-vector"),
    "no.gpx": (lambda path: path.write_text("<kml/>"), "unreadable-vector"),
    "cut.shz": (lambda path: path.write_bytes(packed(path).read_bytes()[:-60]), "unreadable-vector"),
    "cut.geojsonl": (lambda path: path.write_text('{"type": "Feature", "geom'), "unreadable-vector"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files_have_one_code_and_one_message(tmp_path: Path, name: str) -> None:
    write, code = DAMAGED[name]
    write(tmp_path / name)
    error = extract_metadata(tmp_path / name).properties["indexError"]
    for build in (build_pmtiles, build_gpkg):
        with pytest.raises(InvalidInput) as refused:
            build(tmp_path / name, tmp_path / f"a.{build.__name__}", on_progress=lambda _share: None)
        assert (refused.value.code, refused.value.message) == (code, error["message"])
    assert error["code"] == code
    assert str(tmp_path) not in error["message"]
    assert "linked" not in error["message"]


def test_one_wrong_point_does_not_cost_the_index_its_footprint(tmp_path: Path) -> None:
    source = geojson(tmp_path / "a.geojson", *POINTS, feature("Point", [0, 91]))
    found = extract_metadata(source)
    assert found.properties["layers"][0]["bounds"] == [10.0, 45.0, 10.02, 45.0]
    assert found.point == {"type": "Point", "coordinates": [pytest.approx(10.01), pytest.approx(45.0)]}


def test_a_zip_with_too_many_members_is_not_searched(tmp_path: Path) -> None:
    path = packed(tmp_path / "plots.zip")
    content = path.read_bytes()
    end = content.rindex(b"PK\x05\x06")
    path.write_bytes(content[: end + 8] + struct.pack("<HH", 2000, 2000) + content[end + 12 :])
    assert extract_metadata(path).type == "generic"
