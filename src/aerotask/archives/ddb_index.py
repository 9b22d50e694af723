"""DroneDB index of a whole-dataset archive: the SQLite database `.ddb/dbase.sqlite`."""

from __future__ import annotations

import sqlite3
import struct
import uuid
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
_TABLES = """
    CREATE TABLE entries (
        path TEXT PRIMARY KEY, hash TEXT, type INTEGER, properties TEXT, mtime INTEGER, size INTEGER, depth INTEGER,
        point_geom BLOB, polygon_geom BLOB
    );
    CREATE INDEX ix_entries_type ON entries (type);
    CREATE TABLE entries_meta (
        id TEXT PRIMARY KEY, path TEXT NOT NULL, key TEXT NOT NULL, data TEXT NOT NULL, mtime INTEGER NOT NULL
    );
    CREATE INDEX ix_entries_meta_path ON entries_meta (path);
    CREATE INDEX ix_entries_meta_key ON entries_meta (key);
    CREATE TABLE passwords (salt TEXT, hash TEXT);
"""


def write_index(file: Path, entries: Iterable[EntryView], *, slug: str, exported_at: int) -> None:
    """Write the index of the entries to a new file; geometries are SpatiaLite blobs in EPSG:4326."""
    with closing(sqlite3.connect(file)) as database:
        database.execute("PRAGMA journal_mode = OFF")
        database.execute("PRAGMA synchronous = OFF")
        database.executescript(_TABLES)
        with database:
            database.executemany("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", map(_row, entries))
            metadata = orjson.dumps({"slug": slug, "source": "aerotask"}).decode()
            database.execute(
                "INSERT INTO entries_meta VALUES (?, '', 'exported', ?, ?)",
                (str(uuid.uuid4()), metadata, exported_at),
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
