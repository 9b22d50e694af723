"""DroneDB index of a whole-dataset archive."""

from __future__ import annotations

import json
import sqlite3
import struct
from contextlib import closing
from pathlib import Path

from aerotask.archives.ddb_index import TYPE_NUMBERS, write_index
from aerotask.metadata.file_types import EntryType
from aerotask.sdk import EntryView

POINT = {"type": "Point", "coordinates": [10.5, 45.25, 120.0]}
POLYGON = {"type": "Polygon", "coordinates": [[[10, 45], [11, 45], [11, 46], [10, 45]]]}


def rows(file: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(file)) as database:
        return list(database.execute(query))


def test_entries_are_in_the_columns_that_dronedb_reads(tmp_path: Path) -> None:
    file = tmp_path / "dbase.sqlite"
    entries = [
        EntryView("a", "directory", "", 0, indexed=True, mtime=1),
        EntryView(
            "a/p.jpg",
            "geoImage",
            "ab" * 32,
            7,
            indexed=True,
            properties={"width": 4000},
            mtime=1_700_000_000,
            point_geom=POINT,
            polygon_geom=POLYGON,
        ),
    ]
    write_index(file, entries, slug="field", exported_at=5)
    query = "SELECT path, hash, type, properties, mtime, size, depth FROM entries ORDER BY path"
    assert rows(file, query) == [
        ("a", "", 1, "{}", 1, 0, 0),
        ("a/p.jpg", "ab" * 32, 3, '{"width":4000}', 1_700_000_000, 7, 1),
    ]
    [(path, key, data, mtime)] = rows(file, "SELECT path, key, data, mtime FROM entries_meta")
    assert (path, key, json.loads(str(data))["slug"], mtime) == ("", "exported", "field", 5)


def test_geometries_are_spatialite_blobs(tmp_path: Path) -> None:
    file = tmp_path / "dbase.sqlite"
    entry = EntryView("p", "geoImage", "", 0, indexed=True, point_geom=POINT, polygon_geom=POLYGON)
    write_index(file, [entry], slug="x", exported_at=0)
    [(point, polygon)] = rows(file, "SELECT point_geom, polygon_geom FROM entries")
    assert isinstance(point, bytes)
    assert isinstance(polygon, bytes)
    head = struct.unpack("<2BI4dB", point[:39])
    assert head == (0, 1, 4326, 10.5, 45.25, 10.5, 45.25, 0x7C)
    assert (struct.unpack("<I3d", point[39:-1]), point[-1]) == ((1001, 10.5, 45.25, 120.0), 0xFE)
    assert struct.unpack("<2BI4dB", polygon[:39]) == (0, 1, 4326, 10, 45, 11, 46, 0x7C)
    assert struct.unpack("<3I", polygon[39:51]) == (1003, 1, 4)
    assert struct.unpack("<12d", polygon[51:-1])[:6] == (10, 45, 0, 11, 45, 0)


def test_every_entry_type_has_a_number() -> None:
    assert set(TYPE_NUMBERS) == {str(kind) for kind in EntryType}
    assert len(set(TYPE_NUMBERS.values())) == len(TYPE_NUMBERS)
