"""DroneDB index of a whole-dataset archive: the SQLite database `.ddb/dbase.sqlite`."""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import Any

import orjson

from aerotask.sdk.dataset import EntryView

INDEX_PATH = ".ddb/dbase.sqlite"
# DroneDB's entry type numbers (library/entry_types.h).
TYPE_NUMBERS: Mapping[str, int] = {
    "directory": 1,
    "generic": 2,
    "geoImage": 3,
    "geoRaster": 4,
    "pointCloud": 5,
    "image": 6,
    "markdown": 8,
    "video": 9,
    "geoVideo": 10,
    "model": 11,
    "panorama": 12,
    "geoPanorama": 13,
    "vector": 14,
}
_UNKNOWN = 2
_SRID = 4326
_POINT_Z, _POLYGON_Z = 1001, 1003
_WGS84 = (_SRID, "epsg", _SRID, "WGS 84", "+proj=longlat +datum=WGS84 +no_defs")
_WGS84_WKT = (
    'GEOGCS["WGS 84",DATUM["WGS_1984",SPHEROID["WGS 84",6378137,298.257223563,AUTHORITY["EPSG","7030"]],'
    'AUTHORITY["EPSG","6326"]],PRIMEM["Greenwich",0,AUTHORITY["EPSG","8901"]],UNIT["degree",0.0174532925199433,'
    'AUTHORITY["EPSG","9122"]],AXIS["Latitude",NORTH],AXIS["Longitude",EAST],AUTHORITY["EPSG","4326"]]'
)
# As DroneDB's `library/database.cpp` and SpatiaLite's AddGeometryColumn make them, without the triggers that only
# SpatiaLite's functions can run: plain SQLite could then add no entries. The version is `DDB_SCHEMA_VERSION`: DroneDB
# would migrate a database of another one.
_TABLES = """
    CREATE TABLE spatial_ref_sys (
        srid INTEGER NOT NULL PRIMARY KEY, auth_name TEXT NOT NULL, auth_srid INTEGER NOT NULL,
        ref_sys_name TEXT NOT NULL DEFAULT 'Unknown', proj4text TEXT NOT NULL, srtext TEXT NOT NULL DEFAULT 'Undefined'
    );
    CREATE TABLE geometry_columns (
        f_table_name TEXT NOT NULL, f_geometry_column TEXT NOT NULL, geometry_type INTEGER NOT NULL,
        coord_dimension INTEGER NOT NULL, srid INTEGER NOT NULL REFERENCES spatial_ref_sys (srid),
        spatial_index_enabled INTEGER NOT NULL, PRIMARY KEY (f_table_name, f_geometry_column)
    );
    CREATE TABLE entries (
        path TEXT PRIMARY KEY, hash TEXT, type INTEGER, properties TEXT, mtime INTEGER, size INTEGER, depth INTEGER,
        point_geom POINT, polygon_geom POLYGON
    );
    CREATE INDEX ix_entries_type ON entries (type);
    CREATE INDEX ix_entries_hash ON entries (hash);
    CREATE TABLE entries_meta (
        id TEXT PRIMARY KEY, path TEXT NOT NULL, key TEXT NOT NULL, data TEXT NOT NULL, mtime INTEGER NOT NULL
    );
    CREATE INDEX ix_entries_meta_path_key ON entries_meta (path, key);
    CREATE INDEX ix_entries_meta_key ON entries_meta (key);
    CREATE TRIGGER tg_entries_meta_autouuid AFTER INSERT ON entries_meta WHEN NEW.id IS NULL
    BEGIN
        UPDATE entries_meta SET id = lower(printf(
            '%s-%s-4%s-%s%s-%s', hex(randomblob(4)), hex(randomblob(2)), substr(hex(randomblob(2)), 2),
            substr('89ab', 1 + (random() & 3), 1), substr(hex(randomblob(2)), 2), hex(randomblob(6))
        )) WHERE rowid = NEW.rowid;
    END;
    CREATE TABLE passwords (salt TEXT, hash TEXT);
    PRAGMA user_version = 1;
"""
_GEOMETRY_COLUMNS = (
    ("entries", "point_geom", _POINT_Z, _SRID),
    ("entries", "polygon_geom", _POLYGON_Z, _SRID),
)


def write_index(file: Path, entries: Iterable[EntryView], *, slug: str, exported_at: int) -> None:
    """Write the index of the entries to a new file; geometries are SpatiaLite blobs in EPSG:4326."""
    with closing(sqlite3.connect(file)) as database:
        database.execute("PRAGMA journal_mode = OFF")
        database.execute("PRAGMA synchronous = OFF")
        database.executescript(_TABLES)
        with database:
            database.execute("INSERT INTO spatial_ref_sys VALUES (?, ?, ?, ?, ?, ?)", (*_WGS84, _WGS84_WKT))
            database.executemany("INSERT INTO geometry_columns VALUES (?, ?, ?, 3, ?, 0)", _GEOMETRY_COLUMNS)
            database.executemany("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", map(_row, entries))
            metadata = orjson.dumps({"slug": slug, "source": "aerotask"}).decode()
            database.execute(
                "INSERT INTO entries_meta (path, key, data, mtime) VALUES ('', 'exported', ?, ?)",
                (metadata, exported_at),
            )


def _row(entry: EntryView) -> tuple[object, ...]:
    return (
        entry.path,
        entry.sha256,
        TYPE_NUMBERS.get(entry.type, _UNKNOWN),
        orjson.dumps(dict(entry.properties)).decode(),
        entry.mtime,
        entry.size_bytes,
        entry.path.count("/"),
        _point_blob(entry.point_geom),
        _polygon_blob(entry.polygon_geom),
    )


def _point_blob(geometry: Mapping[str, Any] | None) -> bytes | None:
    if not geometry or geometry.get("type") != "Point":
        return None
    position = _with_height(geometry["coordinates"])
    return _blob([position], struct.pack("<I3d", _POINT_Z, *position))


def _polygon_blob(geometry: Mapping[str, Any] | None) -> bytes | None:
    if not geometry or geometry.get("type") != "Polygon":
        return None
    rings = [[_with_height(position) for position in ring] for ring in geometry["coordinates"]]
    body = struct.pack("<2I", _POLYGON_Z, len(rings)) + b"".join(_packed(rings))
    return _blob(list(chain.from_iterable(rings)), body)


def _packed(rings: list[list[tuple[float, float, float]]]) -> Iterator[bytes]:
    for ring in rings:
        yield struct.pack("<I", len(ring))
        yield from (struct.pack("<3d", *position) for position in ring)


def _blob(positions: list[tuple[float, float, float]], body: bytes) -> bytes:
    """SpatiaLite geometry blob: start marker, SRID, bounding box, geometry, end marker."""
    xs, ys = [position[0] for position in positions], [position[1] for position in positions]
    head = struct.pack("<2BI4dB", 0, 1, _SRID, min(xs), min(ys), max(xs), max(ys), 0x7C)
    return head + body + b"\xfe"


def _with_height(position: list[float]) -> tuple[float, float, float]:
    return float(position[0]), float(position[1]), float(position[2]) if len(position) > 2 else 0.0
