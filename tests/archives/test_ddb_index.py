"""DroneDB index of a whole-dataset archive."""

from __future__ import annotations

import json
import sqlite3
import struct
import uuid
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


def test_dronedbs_statements_work_on_the_index(tmp_path: Path) -> None:
    file = tmp_path / "dbase.sqlite"
    write_index(file, [], slug="x", exported_at=0)
    with closing(sqlite3.connect(file)) as database, database:
        for key in ("a", "b"):
            database.execute(
                "INSERT INTO entries_meta(path, key, data, mtime) VALUES ('p', ?, '1', 2)", (key,)
            )
        database.execute(
            "INSERT INTO entries (path, type, properties, mtime, size, depth) VALUES ('d', 1, 'null', 3, 0, 0)"
        )
        database.execute("UPDATE entries SET hash = 'h', point_geom = NULL WHERE path = 'd'")
    ids = [str(found) for (found,) in rows(file, "SELECT id FROM entries_meta")]
    assert len(set(ids)) == 3
    assert all(uuid.UUID(each).version == 4 and str(uuid.UUID(each)) == each for each in ids)
    assert rows(file, "PRAGMA user_version") == [(1,)]


def test_geometry_columns_are_declared_as_spatialite_does(tmp_path: Path) -> None:
    file = tmp_path / "dbase.sqlite"
    write_index(file, [], slug="x", exported_at=0)
    assert rows(file, "SELECT * FROM geometry_columns ORDER BY f_geometry_column") == [
        ("entries", "point_geom", 1001, 3, 4326, 0),
        ("entries", "polygon_geom", 1003, 3, 4326, 0),
    ]
    assert rows(file, "SELECT srid, auth_name, auth_srid FROM spatial_ref_sys") == [(4326, "epsg", 4326)]
    kinds = {name: kind for _, name, kind, *_ in rows(file, "PRAGMA table_info(entries)")}
    assert (kinds["point_geom"], kinds["polygon_geom"]) == ("POINT", "POLYGON")


def test_every_entry_type_has_a_number() -> None:
    assert set(TYPE_NUMBERS) == {str(kind) for kind in EntryType}
    assert len(set(TYPE_NUMBERS.values())) == len(TYPE_NUMBERS)
