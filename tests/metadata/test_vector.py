"""Vector metadata, and files that must not make GDAL read anything else."""

from __future__ import annotations

import io
import json
import socket
import struct
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import numpy as np
import pyogrio
import pytest
from tests.metadata.vectors import DRIVERS, ENDLESS, add_view, write_points

from aerotask.domain.errors import InvalidInput
from aerotask.metadata.vector import VectorMetadata, extract_vector


def look(path: Path) -> VectorMetadata:
    return extract_vector(path, path.suffix[1:].lower())


@pytest.mark.parametrize("suffix", sorted(DRIVERS))
def test_every_format_has_layers_counts_and_extents(tmp_path: Path, suffix: str) -> None:
    found = look(write_points(tmp_path / f"points.{suffix}"))
    assert found.properties["driver"] in {DRIVERS[suffix], "LIBKML"}
    assert (found.properties["layerCount"], found.properties["featureCount"]) == (1, 2)
    (layer,) = found.properties["layers"]
    assert (layer["featureCount"], layer["bounds"]) == (2, [7.0, 50.0, 8.0, 51.0])
    if suffix == "dxf":  # knows no CRS
        assert found.footprint is None
    else:
        assert layer["crs"] == "EPSG:4326"
        assert found.footprint is not None
        assert found.footprint.centre == {"type": "Point", "coordinates": [7.5, 50.5]}


def test_fields_have_names_and_types(tmp_path: Path) -> None:
    found = look(write_points(tmp_path / "a.gpkg"))
    assert found.properties["layers"][0]["fields"] == [{"name": "number", "type": "Integer64"}]
    assert found.properties["layers"][0]["geometryType"] == "Point"


def test_the_extent_spans_all_layers_whatever_their_crs(tmp_path: Path) -> None:
    path = write_points(tmp_path / "a.gpkg", layer="degrees")
    write_points(path, ((500_000.0, 5_000_000.0),) * 2, crs="EPSG:32632", layer="metres", append=True)
    found = look(path)
    assert [layer["name"] for layer in found.properties["layers"]] == ["degrees", "metres"]
    assert found.properties["featureCount"] == 4
    assert found.footprint is not None
    ring = found.footprint.outline["coordinates"][0]
    # The second layer lies at 9° east, 45.15° north.
    assert [min(x for x, _ in ring), max(x for x, _ in ring)] == pytest.approx([7, 9], abs=1e-6)
    assert [min(y for _, y in ring), max(y for _, y in ring)] == pytest.approx([45.153, 51], abs=1e-3)


def test_an_endless_view_of_a_geopackage_is_refused(tmp_path: Path) -> None:
    path = add_view(write_points(tmp_path / "a.gpkg"), ENDLESS)
    with pytest.raises(InvalidInput, match=r"The view 'calculated' of .* takes too long") as caught:
        look(path)
    assert caught.value.code == "vector-too-slow"


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM a",
        # A hundred thousand rows, which take a small part of the steps.
        "WITH RECURSIVE n(fid) AS (SELECT 1 UNION ALL SELECT fid + 1 FROM n LIMIT 100000) SELECT fid FROM n",
        "SELECT fid, ST_SRID(geom) AS crs FROM a",
    ],
)
def test_other_views_of_a_geopackage_are_layers(tmp_path: Path, query: str) -> None:
    path = add_view(write_points(tmp_path / "a.gpkg"), query)
    assert [layer["name"] for layer in look(path).properties["layers"]] == ["a", "calculated"]


@pytest.mark.parametrize("side", ["shx", "dbf"])
def test_a_missing_side_file_of_a_shapefile_is_named(tmp_path: Path, side: str) -> None:
    path = write_points(tmp_path / "a.shp")
    path.with_suffix(f".{side}").unlink()
    with pytest.raises(InvalidInput, match=f"lacks its .{side} file; upload") as caught:
        look(path)
    assert caught.value.code == "missing-side-file"


def test_side_files_match_in_any_case_but_only_under_the_same_name(tmp_path: Path) -> None:
    path = write_points(tmp_path / "a.shp")
    path.with_suffix(".dbf").rename(tmp_path / "a.DBF")
    assert look(path).properties["featureCount"] == 2
    (tmp_path / "a.DBF").rename(tmp_path / "ab.dbf")
    with pytest.raises(InvalidInput, match=r"lacks its \.dbf"):
        look(path)


def test_a_name_may_hold_anything(tmp_path: Path) -> None:
    folder = tmp_path / "a: b!"
    folder.mkdir()
    for name in ("two\nlines.geojson", "\u202egnp.geojson", "🛰️.geojson", "x.zip!y.geojson", "GPKG:a.geojson"):
        write_points(tmp_path / "plain.geojson").rename(folder / name)
        assert look(folder / name).properties["featureCount"] == 2, name


SECRET = '{"type": "FeatureCollection", "features": []}'


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        pytest.param(
            "geojson",
            '{"type": "gdal_streamed_alg", "command_line": "gdal vector pipeline read SECRET ! write streamed"}',
            id="a pipeline of GDAL's",
        ),
        pytest.param(
            "kml",
            "<OGRVRTDataSource><OGRVRTLayer name='secret'><SrcDataSource>SECRET</SrcDataSource></OGRVRTLayer>"
            "</OGRVRTDataSource>",
            id="a virtual source",
        ),
        pytest.param(
            "gml",
            "<!-- <FeatureCollection> --><OGRVRTDataSource><OGRVRTLayer name='secret'><SrcDataSource>SECRET"
            "</SrcDataSource></OGRVRTLayer></OGRVRTDataSource>",
            id="a virtual source behind a comment",
        ),
        pytest.param("gml", "<OGRWFSDataSource><URL>http://SERVER/</URL></OGRWFSDataSource>", id="a web service"),
        pytest.param(
            "kml",
            '<!DOCTYPE kml [<!ENTITY f SYSTEM "SECRET">]><kml xmlns="http://www.opengis.net/kml/2.2">&f;</kml>',
            id="an entity that is a file",
        ),
        pytest.param(
            "kml",
            '<!DOCTYPE kml [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;">]><kml>&b;</kml>',
            id="entities that multiply",
        ),
        pytest.param("geojson", "SECRET", id="no JSON"),
        pytest.param("gpkg", "SQLite format 3\0, or not", id="no GeoPackage"),
        pytest.param("shp", "no shapefile", id="no shapefile"),
        pytest.param("fgb", "fgb\x03fgb\x01 and no more", id="a FlatGeobuf that was cut"),
        pytest.param("dxf", "\0\0SECTION", id="no DXF"),
        pytest.param("geojson", '{"type": "FeatureCollection", "features": [{"type": "Feat', id="cut JSON"),
        pytest.param("geojson", "[" * 100_000, id="arrays in arrays"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_a_vector_file_reaches_neither_files_nor_the_network(
    tmp_path: Path, suffix: str, content: str
) -> None:
    secret = tmp_path / "secret.geojson"
    secret.write_text(SECRET)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        port = server.getsockname()[1]
        path = tmp_path / f"evil.{suffix}"
        path.write_text(content.replace("SECRET", str(secret)).replace("SERVER", f"127.0.0.1:{port}"))
        with pytest.raises(InvalidInput, match="not a readable vector file") as caught:
            look(path)
        with pytest.raises(BlockingIOError):
            server.accept()
    assert str(tmp_path) not in caught.value.message


def test_an_external_schema_is_not_fetched(tmp_path: Path) -> None:
    path = write_points(tmp_path / "a.gml")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/a.xsd"
        path.write_text(path.read_text().replace("a.xsd", address))
        assert look(path).properties["featureCount"] == 2
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.parametrize("piece", [b"[7.1,50.1],", b"[[],[[]]],", b'"x",'])
def test_huge_arrays_in_one_feature_fit_into_the_memory_of_the_extractor(
    tmp_path: Path, piece: bytes
) -> None:
    path = tmp_path / "wide.geojson"
    with path.open("wb") as content:
        content.write(
            b'{"type":"FeatureCollection","features":[{"type":"Feature","properties":{},"geometry":'
        )
        content.write(b'{"type":"Polygon","coordinates":[[')
        for _ in range(100):
            content.write(piece * 100_000)
        content.write(b"[7,50]]]}}]}")
    program = (
        "import sys; from pathlib import Path; from aerotask.metadata.extract import extract_metadata;"
        "from aerotask.worker.tool_child import limit_child; from aerotask.worker.indexing.index_batch import MEMORY_BYTES;"
        "from aerotask.worker.jobs import IndexJob; limit_child(IndexJob((), '', MEMORY_BYTES));"
        "print(extract_metadata(Path(sys.argv[1])).error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True
    )
    assert "one of its features is larger than the limit of 50 MB" in done.stdout


def test_a_text_format_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.geojson"
    with path.open("wb") as content:
        content.write(b'{"type":"FeatureCollection","features":[')
        content.truncate(1024**3)  # a gibibyte that takes no room
    with pytest.raises(InvalidInput, match="up to 256 MiB") as caught:
        look(path)
    assert caught.value.code == "vector-too-large"


def test_the_metadata_of_many_layers_with_many_fields_are_bounded(tmp_path: Path) -> None:
    path = tmp_path / "wide.gpkg"
    fields = [f"{number:03}{'x' * 37}" for number in range(256)]
    for number in range(20):
        pyogrio.raw.write(
            path,
            geometry=np.array([struct.pack("<BIdd", 1, 1, 7, 50)], dtype=object),
            field_data=[np.arange(1)] * len(fields),
            fields=fields,
            geometry_type="Point",
            crs="EPSG:4326",
            driver="GPKG",
            layer=f"layer {number}",
            append=number > 0,
        )
    found = look(path).properties
    assert (found["layerCount"], found["featureCount"]) == (20, 20)
    assert [layer["fieldCount"] for layer in found["layers"]] == [256] * 20
    assert [len(layer["fields"]) for layer in found["layers"]] == [256] * 9 + [192] + [0] * 10
    assert len(json.dumps(found)) < 200_000


def test_a_kmz_that_would_unpack_to_too_much_is_rejected(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("doc.kml", b"<kml>" + b" " * 80_000_000 + b"</kml>")
    (tmp_path / "a.kmz").write_bytes(packed.getvalue())
    with pytest.raises(InvalidInput, match="doesn't match its suffix"):
        look(tmp_path / "a.kmz")


def test_threads_do_not_interfere(tmp_path: Path) -> None:
    paths = [write_points(tmp_path / f"{number}.gpkg") for number in range(4)]
    counts: list[int] = []
    threads = [
        threading.Thread(target=lambda path=path: counts.append(look(path).properties["featureCount"]))
        for path in paths
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [2, 2, 2, 2]


def test_pointer_drivers_are_not_registered_where_uploads_are_read() -> None:
    # In a process of its own: this one has imported pyogrio by itself.
    program = (
        "import aerotask.metadata.extract, os, pyogrio; from aerotask.metadata.ogr import POINTERS;"
        "print(sorted(set(POINTERS) & set(pyogrio.list_drivers())), 'OGR_SKIP' in os.environ)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[] False\n"


def rectangle(west: float, south: float, east: float, north: float) -> list[list[list[float]]]:
    return [[[west, south], [east, south], [east, north], [west, north], [west, south]]]


@pytest.mark.parametrize(
    "geometries",
    [
        [
            {"type": "Polygon", "coordinates": rectangle(178, -18, 179, -16)},
            {"type": "Polygon", "coordinates": rectangle(-179, -18, -178, -16)},
        ],
        [  # as RFC 7946 asks for
            {
                "type": "MultiPolygon",
                "coordinates": [rectangle(178, -18, 180, -16), rectangle(-180, -18, -178, -16)],
            }
        ],
        [{"type": "Polygon", "coordinates": rectangle(178, -18, -178, -16)}],
        [{"type": "LineString", "coordinates": [[178, -18], [-178, -16]]}],
        [
            {
                "type": "GeometryCollection",
                "geometries": [
                    {"type": "Point", "coordinates": [178, -18]},
                    {"type": "MultiPoint", "coordinates": [[-178, -16], [-179, -17]]},
                ],
            }
        ],
    ],
)
def test_the_footprint_of_features_on_both_sides_of_the_antimeridian_is_cut_there(
    tmp_path: Path, geometries: list[dict[str, object]]
) -> None:
    path = tmp_path / "fiji.geojson"
    features = [{"type": "Feature", "properties": {}, "geometry": geometry} for geometry in geometries]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    found = look(path)
    assert found.footprint is not None
    assert found.footprint.outline == {
        "type": "MultiPolygon",
        "coordinates": [
            [[[178.0, -18.0], [180.0, -18.0], [180.0, -16.0], [178.0, -16.0], [178.0, -18.0]]],
            [[[-180.0, -18.0], [-178.0, -18.0], [-178.0, -16.0], [-180.0, -16.0], [-180.0, -18.0]]],
        ],
    }
    assert found.footprint.centre == {"type": "Point", "coordinates": [180.0, -17.0]}


@pytest.mark.parametrize(
    "longitudes", [(-170.0, -60.0, 30.0, 140.0), (-100.0, 100.0, 0.0), (-179.0, 179.0, 90.0, -90.0)]
)
def test_features_all_around_the_earth_have_a_footprint_around_it(
    tmp_path: Path, longitudes: tuple[float, ...]
) -> None:
    found = look(write_points(tmp_path / "a.gpkg", tuple((longitude, 10.0) for longitude in longitudes)))
    assert found.footprint is not None
    assert found.footprint.bounds == pytest.approx((min(longitudes), 10, max(longitudes), 10))
