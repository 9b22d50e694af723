"""GeoPackage and vector tiles of vector files, read back by pyogrio, pmtiles and mapbox-vector-tile."""

import gzip
import json
import os
import struct
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import mapbox_vector_tile
import numpy as np
import pyogrio
import pyogrio.raw
import pytest
import shapely
from pmtiles.reader import MmapSource, Reader, all_tiles

from aerotask.derivatives.gpkg import build_gpkg
from aerotask.derivatives.pmtiles import build_pmtiles
from aerotask.derivatives.vector_source import open_vector
from aerotask.derivatives.vector_tiles.zooms import max_zoom
from aerotask.domain.errors import InvalidInput

NAMES = [f"tree {number}" for number in range(60)]
PLACES = np.random.default_rng(8).random((60, 2)) * [0.01, 0.005] + [11.5, 48.1]


def nothing(_share: float) -> None:
    pass


def write_trees(
    path: Path, *, driver: str, layer: str = "trees", first: int = 0, crs: str | None = "EPSG:4326"
) -> Path:
    """Write points with a name and a height with a driver; an existing file gets another layer."""
    pyogrio.raw.write(
        path,
        shapely.to_wkb(shapely.points(PLACES[first:])),
        field_data=[np.array(NAMES[first:], object), np.arange(60.0)[first:] / 2],
        fields=["name", "height"],
        layer=layer,
        driver=driver,
        geometry_type="Point",
        crs=crs,
    )
    return path


def names_in(path: Path, layer: str | None = None) -> list[str]:
    metadata, _, _, fields = pyogrio.raw.read(path, layer=layer, read_geometry=False)
    return sorted(fields[list(metadata["fields"]).index("name")])


def gpkg_of(source: Path) -> tuple[Path, dict[str, Any]]:
    target = source.parent / "made.gpkg"
    target.unlink(missing_ok=True)
    return target, build_gpkg(source, target, on_progress=nothing)


def pmtiles_of(source: Path) -> tuple[Path, dict[str, Any]]:
    target = source.parent / "made.pmtiles"
    target.unlink(missing_ok=True)
    return target, build_pmtiles(source, target, on_progress=nothing)


def features_by_zoom(path: Path) -> dict[int, dict[str, list[dict[str, Any]]]]:
    """Properties of all features in all decoded tiles, by zoom and layer."""
    found: dict[int, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    with path.open("rb") as content:
        for (zoom, _x, _y), tile in all_tiles(MmapSource(content)):
            for name, layer in mapbox_vector_tile.decode(gzip.decompress(tile)).items():
                found[zoom][name] += [feature["properties"] for feature in layer["features"]]
    return found


SOURCES = [
    ("a.geojson", "GeoJSON"),
    ("a.gpkg", "GPKG"),
    ("a.shp", "ESRI Shapefile"),
    ("a.fgb", "FlatGeobuf"),
    ("a.gml", "GML"),
    ("a.kml", "LIBKML"),
    ("a.kmz", "LIBKML"),
]


@pytest.mark.parametrize(("name", "driver"), SOURCES, ids=[name for name, _ in SOURCES])
def test_every_format_becomes_geopackage_and_tiles(tmp_path: Path, name: str, driver: str) -> None:
    source = write_trees(tmp_path / name, driver=driver)
    package, properties = gpkg_of(source)
    [layer] = properties["layers"]
    assert (layer["features"], layer["crs"]) == (60, "EPSG:4326")
    info = pyogrio.read_info(package, force_total_bounds=True)
    assert (info["driver"], info["features"]) == ("GPKG", 60)
    assert info["total_bounds"] == pytest.approx((*PLACES.min(axis=0), *PLACES.max(axis=0)), abs=1e-6)
    field = "Name" if driver == "LIBKML" else "name"
    metadata, _, _, fields = pyogrio.raw.read(package, read_geometry=False)
    assert sorted(fields[list(metadata["fields"]).index(field)]) == sorted(NAMES)

    tiles, properties = pmtiles_of(source)
    by_zoom = features_by_zoom(tiles)
    assert sorted(by_zoom) == list(range(properties["minZoom"], properties["maxZoom"] + 1))
    [trees] = by_zoom[properties["maxZoom"]].values()
    assert {tree[field] for tree in trees} == set(NAMES)


def write_many(path: Path, *, features: int) -> Path:
    """Write points within a few metres of each other."""
    places = np.random.default_rng(4).random((features, 2)) * 1e-5 + [11.5, 48.1]
    pyogrio.raw.write(
        path,
        shapely.to_wkb(shapely.points(places)),
        field_data=[np.arange(features)],
        fields=["number"],
        driver="GPKG",
        geometry_type="Point",
        crs="EPSG:4326",
    )
    return path


def test_many_features_in_one_place_are_all_in_the_most_detailed_tiles(tmp_path: Path) -> None:
    tiles, properties = pmtiles_of(write_many(tmp_path / "a.gpkg", features=1000))
    [points] = features_by_zoom(tiles)[properties["maxZoom"]].values()
    assert sorted(point["number"] for point in points) == list(range(1000))
    assert properties["warnings"] == []


def test_features_missing_from_the_tiles_are_counted_in_a_warning(tmp_path: Path) -> None:
    places = [{"type": "Point", "coordinates": [11, 48]}, None, None]
    features = [{"type": "Feature", "properties": {}, "geometry": place} for place in places]
    source = tmp_path / "a.geojson"
    source.write_text(json.dumps({"type": "FeatureCollection", "features": features}), encoding="utf-8")
    _, properties = pmtiles_of(source)
    assert properties["warnings"] == [
        "Layer 'a': 2 of 3 features (ids 1, 2) left out of the tiles: no geometry."
    ]


def test_attributes_named_like_the_id_and_geometry_columns_are_kept(tmp_path: Path) -> None:
    features = [
        {
            "type": "Feature",
            "properties": {"fid": number + 0.5, "geom": f"g{number}", "tags": ["a", "b"]},
            "geometry": {"type": "Point", "coordinates": [11, 48]},
        }
        for number in range(3)
    ]
    source = tmp_path / "a.geojson"
    source.write_text(json.dumps({"type": "FeatureCollection", "features": features}), encoding="utf-8")
    package, _ = gpkg_of(source)
    metadata, _, _, fields = pyogrio.raw.read(package, read_geometry=False)
    kept = dict(zip(metadata["fields"], (list(values) for values in fields), strict=True))
    assert kept["fid"] == [0.5, 1.5, 2.5]
    assert kept["geom"] == ["g0", "g1", "g2"]
    assert [json.loads(value) for value in kept["tags"]] == [["a", "b"]] * 3


def test_every_layer_is_in_the_geopackage_and_in_the_tiles(tmp_path: Path) -> None:
    source = write_trees(tmp_path / "a.gpkg", driver="GPKG", layer="old", first=40)
    write_trees(source, driver="GPKG", layer="young", first=10)
    package, properties = gpkg_of(source)
    assert [(layer["name"], layer["features"]) for layer in properties["layers"]] == [
        ("old", 20),
        ("young", 50),
    ]
    assert names_in(package, "old") == sorted(NAMES[40:])
    tiles, properties = pmtiles_of(source)
    assert properties["layers"] == ["old", "young"]
    last = features_by_zoom(tiles)[properties["maxZoom"]]
    assert {name: {tree["name"] for tree in trees} for name, trees in last.items()} == {
        "old": set(NAMES[40:]),
        "young": set(NAMES[10:]),
    }
    with tiles.open("rb") as content:
        metadata = Reader(MmapSource(content)).metadata()
    assert [layer["id"] for layer in metadata["vector_layers"]] == ["old", "young"]


def test_the_header_has_the_bounds_of_the_tiles(tmp_path: Path) -> None:
    tiles, properties = pmtiles_of(write_trees(tmp_path / "a.geojson", driver="GeoJSON"))
    with tiles.open("rb") as content:
        header = Reader(MmapSource(content)).header()
    assert properties["maxZoom"] == header["max_zoom"] == 16
    assert header["min_lon_e7"] / 1e7 == pytest.approx(PLACES[:, 0].min(), abs=1e-4)
    assert header["max_lat_e7"] / 1e7 == pytest.approx(PLACES[:, 1].max(), abs=1e-4)


@pytest.mark.parametrize(
    ("extent_deg", "zoom"), [(360, 7), (10, 13), (0.5, 16), (0.0001, 16), (0, 16), (2000, 5)]
)
def test_the_larger_the_extent_the_coarser_the_last_zoom(extent_deg: float, zoom: int) -> None:
    assert max_zoom(extent_deg) == zoom


def test_features_without_a_coordinate_system_are_not_tiled(tmp_path: Path) -> None:
    source = write_trees(tmp_path / "a.shp", driver="ESRI Shapefile")
    source.with_suffix(".prj").unlink()
    _, properties = gpkg_of(source)
    assert properties["layers"] == [{"name": "a", "features": 60, "crs": None}]
    with pytest.raises(InvalidInput, match=r"\.prj") as refused:
        pmtiles_of(source)
    assert refused.value.code == "not-georeferenced"


def test_a_file_with_nothing_to_show_has_no_tiles(tmp_path: Path) -> None:
    source = tmp_path / "a.geojson"
    source.write_text('{"type": "FeatureCollection", "features": []}', encoding="utf-8")
    assert gpkg_of(source)[1]["layers"][0]["features"] == 0
    with pytest.raises(InvalidInput) as refused:
        pmtiles_of(source)
    assert refused.value.code == "nothing-to-show"


VRT = b'<OGRVRTDataSource><OGRVRTLayer name="a"><SrcDataSource>/etc/passwd</SrcDataSource></OGRVRTLayer></OGRVRTDataSource>'
BAD = {
    "empty.geojson": b"",
    "empty.gpkg": b"",
    "empty.shp": b"",
    "empty.kml": b"",
    "cut.geojson": b'{"type": "FeatureCollection", "features": [{"type": "Feature", "geome',
    "deep.geojson": b"[" * 2_000_000,
    "text.gpkg": b"no database",
    "cut.gpkg": b"SQLite format 3\0" + b"\0" * 2000,
    "cut.fgb": b"fgb\x03fgb\x00" + b"\xff" * 300,
    "zip.kmz": b"PK\x03\x04" + b"\0" * 100,
    "cut.kml": b'<?xml version="1.0"?><kml><Document><Placemark>',
    "text.dxf": b"nothing",
    "vrt.kml": VRT,
    "vrt.geojson": VRT,
    "vrt.gml": VRT,
    "second-root.kml": b"<kml/>" + VRT,
    "pipeline.geojson": b'{"type": "gdal_streamed_alg", "command_line": "gdal vector pipeline ! read /etc/passwd"}',
    "entity.kml": b'<?xml version="1.0"?><!DOCTYPE kml [<!ENTITY a SYSTEM "file:///etc/passwd">]><kml>&a;</kml>',
    "wfs.gml": b"<OGRWFSDataSource><URL>http://127.0.0.1:9/</URL></OGRWFSDataSource>",
}


@pytest.mark.parametrize("name", BAD)
def test_other_files_are_rejected(tmp_path: Path, name: str) -> None:
    source = tmp_path / name
    source.write_bytes(BAD[name])
    for build in (build_gpkg, build_pmtiles):
        with pytest.raises(InvalidInput) as refused:
            build(source, tmp_path / f"made{build.__name__}", on_progress=nothing)
        assert refused.value.code == "unreadable-vector"
        assert str(tmp_path) not in refused.value.message


def test_drivers_that_follow_references_are_never_registered() -> None:
    program = (
        "import aerotask.derivatives.build, pyogrio;"
        "print({'OGR_VRT', 'GDALG', 'HTTP', 'WFS', 'OAPIF', 'CSW'} & set(pyogrio.list_drivers()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_shapefile_is_not_read_without_its_index(tmp_path: Path) -> None:
    source = write_trees(tmp_path / "a.shp", driver="ESRI Shapefile")
    source.with_suffix(".shx").unlink()
    with pytest.raises(InvalidInput, match=r"lacks its \.shx file") as refused:
        gpkg_of(source)
    assert refused.value.code == "missing-side-file"


def test_an_incomplete_shapefile_is_rejected(tmp_path: Path) -> None:
    source = write_trees(tmp_path / "a.shp", driver="ESRI Shapefile")
    content = source.read_bytes()
    boasting = content[:24] + struct.pack(">i", 2**30) + content[28:]
    for damaged in (content[: len(content) // 2], boasting, content[:90]):
        source.write_bytes(damaged)
        with pytest.raises(InvalidInput) as refused:
            gpkg_of(source)
        assert refused.value.code == "unreadable-vector"


COLLECTION = b'{"type":"FeatureCollection","features":['
FEATURE = b'{"type":"Feature","properties":{},"geometry":'
HARMFUL = {
    "nested": (b"", b"[", b"", "vector-too-large"),
    "nested features": (COLLECTION, b"[", b"", "unreadable-vector"),
    "nested coordinates": (
        COLLECTION + FEATURE + b'{"type":"Polygon","coordinates":',
        *(b"[", b"", "unreadable-vector"),
    ),
    "wide coordinates": (
        COLLECTION + FEATURE + b'{"type":"Polygon","coordinates":[[',
        *(b"[[],[[]]],", b"[7,50]]]}}]}", "unreadable-vector"),
    ),
    "wide properties": (
        COLLECTION + b'{"type":"Feature","properties":{"a":[',
        *(b"[],", b'0]},"geometry":null}]}', "unreadable-vector"),
    ),
    "a geometry": (b'{"type":"MultiPoint","coordinates":[', b"[7.1,50.1],", b"[7,50]]}", "vector-too-large"),
    "a feature": (
        FEATURE + b'{"type":"MultiPoint","coordinates":[',
        *(b"[7.1,50.1],", b"[7,50]]}}", "vector-too-large"),
    ),
}
MIB = 1024 * 1024
SIZE_MIB = int(os.environ.get("AEROTASK_TEST_GEOJSON_MIB", "64"))
"""1024 needs a GiB of disk and little more time."""


@pytest.mark.parametrize("shape", HARMFUL)
def test_huge_json_arrays_are_rejected_before_they_fill_the_memory(tmp_path: Path, shape: str) -> None:
    start, piece, end, code = HARMFUL[shape]
    source = tmp_path / "a.geojson"
    with source.open("wb") as content:
        content.write(start)
        for _ in range(SIZE_MIB):
            content.write(piece * (MIB // len(piece)))
        content.write(end)
    program = (
        "import sys; from pathlib import Path; from aerotask.sandbox.kernel.limits import limit_memory\n"
        "from aerotask.derivatives.gpkg import build_gpkg; from aerotask.domain.errors import InvalidInput\n"
        "limit_memory(768 * 2**20)\n"
        "try: build_gpkg(Path(sys.argv[1]), Path(sys.argv[2]), on_progress=print)\n"
        "except InvalidInput as error: print(error.code, error.message)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(source), str(tmp_path / "made.gpkg")],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    assert done.stdout.startswith(code), done.stdout
    assert "out of memory" not in done.stdout


def test_long_feature_sequences_are_read(tmp_path: Path) -> None:
    named = FEATURE.replace(b"{}", b'{"a":"%s"}' % (b"long " * 20_000))
    line = named + b'{"type":"Point","coordinates":[7,50]}}\n'
    (tmp_path / "a.geojson").write_bytes(line * (33 * MIB // len(line)))
    with open_vector(tmp_path / "a.geojson") as vector:
        assert len(vector.layers) == 1
