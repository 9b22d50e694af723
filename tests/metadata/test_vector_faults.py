"""Messages about vector files that can't be read, each tried on a file that has just that fault."""

from __future__ import annotations

import json
import logging
import struct
import zipfile
from pathlib import Path

import numpy as np
import pyogrio
import pytest
from tests.metadata.vectors import write_points

from aerotask.derivatives.gpkg import build_gpkg
from aerotask.derivatives.pmtiles import build_pmtiles
from aerotask.domain.errors import InvalidInput, cause_of
from aerotask.metadata.extract import extract_metadata

FEATURE = {"type": "Feature", "properties": {}, "geometry": {"type": "Point", "coordinates": [7, 50]}}
GEOJSON = json.dumps({"type": "FeatureCollection", "features": [FEATURE]}, indent=1)
KML = '<?xml version="1.0"?>\n<kml xmlns="http://www.opengis.net/kml/2.2">\n'


def built(source: Path, target: str = "t.gpkg") -> list[str]:
    """The warnings of a build."""
    folder = source.parent / "built"
    folder.mkdir(exist_ok=True)
    build = build_gpkg if target.endswith("gpkg") else build_pmtiles
    warnings: list[str] = build(source, folder / target, on_progress=lambda _share: None)["warnings"]
    return warnings


def why(source: Path) -> str:
    """Why the index can't read the file, which the build says in the same words."""
    error = extract_metadata(source).properties["indexError"]
    assert error["code"] == "unreadable-vector"
    with pytest.raises(InvalidInput) as refused:
        built(source)
    assert (refused.value.code, refused.value.message) == (error["code"], error["message"])
    return str(error["message"]).removeprefix(f"'{source.name}' is not a readable vector file: ")


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.geojson", GEOJSON[:-20], "it ends before its JSON is complete."),
        ("a.geojson", GEOJSON.replace("7,", "7 7,", 1), "its JSON is invalid at line 10, column 8."),
        ("a.geojson", '{"type":"FeatureCollection","features":' + "[" * 99_999, "its JSON is nested too deeply."),
        ("a.geojson", '{"a": 1}', "its JSON is no GeoJSON (RFC 7946) with features that can be read."),
        ("a.geojson", "[1, 2]", "its JSON is no GeoJSON (RFC 7946) with features that can be read."),
        ("a.kml", f"{KML}<Document>", "it ends before its XML is complete."),
        ("a.kml", f"{KML}<Document></kml>", "its XML is invalid at line 3, column 13."),
        ("a.kml", f"{KML}</kml>", "its XML is well-formed, but no KML with features that can be read."),
        ("a.gml", "<FeatureCollection><x/></FeatureCollection>", "its XML is well-formed, but no GML with features that can be read."),
        ("a.gpx", "<gpx><trk><trkseg>", "it ends before its XML is complete."),
    ],
)  # fmt: skip
def test_the_fault_of_a_text_is_found_where_it_is(
    tmp_path: Path, name: str, content: str, expected: str
) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    assert why(path) == expected


def test_a_geojson_that_is_not_utf_8_is_refused_by_the_place(tmp_path: Path) -> None:
    path = tmp_path / "a.geojson"
    path.write_bytes(b'{"type": "FeatureCollection", "name": "\xe4", "features": [')
    assert why(path) == "it is not UTF-8 (byte 40)."


def test_a_cut_geopackage_is_called_an_incomplete_database(tmp_path: Path) -> None:
    path = write_points(tmp_path / "a.gpkg")
    path.write_bytes(path.read_bytes()[:30_000])
    assert why(path) == "its database is damaged or incomplete."


def shapefile(folder: Path, **parts: bytes) -> Path:
    """A Shapefile of two points, some of whose parts have another content."""
    path = write_points(folder / "a.shp")
    for suffix, content in parts.items():
        path.with_suffix(f".{suffix}").write_bytes(content)
    return path


def test_the_damaged_part_of_a_shapefile_is_named(tmp_path: Path) -> None:
    path = shapefile(tmp_path)
    index, table = (path.with_suffix(suffix).read_bytes() for suffix in (".shx", ".dbf"))
    shapefile(tmp_path, shx=index[:104])
    assert why(path) == "its .shx file is damaged or incomplete."
    for short in (table[:-4], table[:8], bytes(range(60, 160))):
        shapefile(tmp_path, dbf=short)
        assert why(path) == "its .dbf file is damaged or incomplete, so features would be missing."
        packed = tmp_path / "a.zip"
        with zipfile.ZipFile(packed, "w") as archive:
            for suffix in ("shp", "shx", "dbf"):
                archive.write(path.with_suffix(f".{suffix}"), f"a.{suffix}")
        assert why(packed) == "its .dbf file is damaged or incomplete, so features would be missing."


def test_names_in_another_encoding_than_the_declared_one_are_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.shp"
    pyogrio.raw.write(
        path,
        geometry=np.array([struct.pack("<BIdd", 1, 1, 7, 50)], dtype=object),
        field_data=[np.array([1])],
        fields=["höhe"],
        geometry_type="Point",
        crs="EPSG:4326",
        driver="ESRI Shapefile",
        encoding="CP1252",
    )
    path.with_suffix(".cpg").write_text("UTF-8")
    assert why(path).startswith(
        "its names are not in the encoding that it declares; a Shapefile's is in its .cpg"
    )


def test_a_file_without_a_coordinate_system_learns_how_to_get_one(tmp_path: Path) -> None:
    def refused(source: Path) -> str:
        with pytest.raises(InvalidInput) as found:
            built(source, "t.pmtiles")
        assert found.value.code == "not-georeferenced"
        told = f"'{source.name}' declares no coordinate system, so its features can't be shown on a map. "
        return found.value.message.removeprefix(told)

    path = shapefile(tmp_path, prj=b"no coordinate system")
    assert refused(path).startswith("Its .prj file holds none that can be understood: replace it")
    path.with_suffix(".prj").unlink()
    assert refused(path) == "Upload its .prj file into the same folder under the same name."
    drawing = write_points(tmp_path / "a.dxf")
    assert refused(drawing).startswith("Export the drawing as a GeoPackage")
    package = tmp_path / "a.gpkg"
    with pytest.warns(UserWarning, match="'crs' was not provided"):
        pyogrio.raw.write(
            package,
            geometry=np.array([struct.pack("<BIdd", 1, 1, 7, 50)], dtype=object),
            field_data=[],
            fields=[],
            geometry_type="Point",
            driver="GPKG",
        )
    assert refused(package) == "Assign it in a GIS ('ogr2ogr -a_srs'), and upload the result."


def test_warnings_are_in_plain_words_and_the_converters_own_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [{**FEATURE, "id": 1}] * 2}))
    with caplog.at_level(logging.WARNING):
        assert built(path) == ["Several features have the same id; the later ones get others."]
    assert "Altering it to be unique" in caplog.text


def test_the_cause_of_an_error_is_what_the_library_said(tmp_path: Path) -> None:
    path = write_points(tmp_path / "a.gpkg")
    path.write_bytes(path.read_bytes()[:30_000])
    with pytest.raises(InvalidInput) as refused:
        built(path)
    cause = cause_of(refused.value)
    assert cause is not None
    assert "database disk image is malformed" in cause
