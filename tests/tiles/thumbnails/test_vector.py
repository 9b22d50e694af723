"""Thumbnails of GeoJSON."""

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from aerotask.domain.errors import InvalidInput
from aerotask.tiles.thumbnails.vector import AREA, LINE, MAX_BYTES, draw_geojson

SQUARE = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]]}


def drawn(path: Path, document: Any, *, size_px: int = 104) -> np.ndarray[Any, np.dtype[Any]]:
    path.write_bytes(orjson.dumps(document))
    return np.asarray(draw_geojson(path, size_px=size_px))


def code_of(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(InvalidInput) as refused:
        draw_geojson(path, size_px=64)
    return refused.value.code


def test_a_polygon_has_a_translucent_fill_and_an_outline(tmp_path: Path) -> None:
    pixels = drawn(tmp_path / "a.geojson", SQUARE)
    assert pixels.shape == (104, 104, 4)
    assert pixels[52, 52].tolist() == pytest.approx(list(AREA), abs=1)
    assert pixels[52, 2].tolist() == list(LINE)
    assert pixels[0, 0, 3] == 0


def test_north_is_up_and_the_aspect_ratio_is_kept(tmp_path: Path) -> None:
    line = {"type": "LineString", "coordinates": [[10, 60, 5], [12, 61, 5]]}
    pixels = drawn(tmp_path / "a.geojson", {"type": "Feature", "geometry": line, "properties": None})
    assert pixels.shape[0] == pytest.approx(104, abs=1)  # cos(60.5°) makes two degrees about one
    assert pixels.shape[1] == pytest.approx(103, abs=2)
    assert pixels[:6, -6:, 3].any()
    assert not pixels[:6, :6, 3].any()


def test_all_geometry_types_are_drawn(tmp_path: Path) -> None:
    geometries = [
        {"type": "Point", "coordinates": [0, 0]},
        {"type": "MultiPoint", "coordinates": [[1, 1], [2, 2]]},
        {"type": "MultiLineString", "coordinates": [[[0, 0], [3, 3]], [[1, 0], [2, 1]]]},
        {"type": "MultiPolygon", "coordinates": [SQUARE["coordinates"]]},
        {"type": "GeometryCollection", "geometries": [SQUARE]},
    ]
    features = [{"type": "Feature", "geometry": each, "properties": {}} for each in geometries]
    empty: dict[str, Any] = {"type": "Feature", "geometry": None, "properties": {}}
    pixels = drawn(tmp_path / "a.geojson", {"type": "FeatureCollection", "features": [*features, empty]})
    assert pixels[..., 3].any()


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "unreadable-vector"),
        (b"[" * 100_000, "unreadable-vector"),
        (b'{"type": "Polygon", "coordinates": [[["a", "b"]]]}', "unreadable-vector"),
        (b'{"type": "Point", "coordinates": [1e999, 1]}', "unreadable-vector"),
        (b'{"type": "Circle", "coordinates": [1, 1]}', "unreadable-vector"),
        (b'{"type": "gdal_virtual_file"}', "unreadable-vector"),
        (b'{"type": "FeatureCollection", "features": []}', "empty-vector"),
        (b" " * (MAX_BYTES + 1), "vector-too-large"),
    ],
    ids=[
        "empty file",
        "deep nesting",
        "not numbers",
        "infinite",
        "unknown type",
        "gdal virtual file",
        "no features",
        "too large",
    ],
)
def test_invalid_geojson_is_refused(tmp_path: Path, content: bytes, code: str) -> None:
    assert code_of(tmp_path / "a.geojson", content) == code


def test_deeply_nested_collections_are_drawn(tmp_path: Path) -> None:
    document: dict[str, Any] = {"type": "Point", "coordinates": [1, 1]}
    for _ in range(100):
        document = {"type": "GeometryCollection", "geometries": [document]}
    assert drawn(tmp_path / "a.geojson", document)[..., 3].any()


@pytest.mark.parametrize(("start", "end"), [(b"", b"\n"), (b"\x1e", b"\n"), (b"\x1e", b"")])
def test_a_sequence_of_features_is_drawn_like_a_collection_of_them(
    tmp_path: Path, start: bytes, end: bytes
) -> None:
    line = {"type": "LineString", "coordinates": [[0, 0], [3, 1]]}
    features = [{"type": "Feature", "geometry": each, "properties": {}} for each in (SQUARE, line)]
    collection = drawn(tmp_path / "a.geojson", {"type": "FeatureCollection", "features": features})
    (tmp_path / "b.geojson").write_bytes(b"".join(start + orjson.dumps(each) + end for each in features))
    sequence = np.asarray(draw_geojson(tmp_path / "b.geojson", size_px=104))
    assert np.array_equal(sequence, collection)
