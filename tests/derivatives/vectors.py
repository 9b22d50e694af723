"""Hostile vector files."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from tests.metadata.vectors import write_points


def endless(path: Path) -> Path:
    """GeoPackage with an endless layer, computed by a function that only GDAL has, so that no check foresees it."""
    write_points(path)
    with sqlite3.connect(path) as database:
        [(table, geometry)] = database.execute("SELECT table_name, column_name FROM gpkg_geometry_columns")
        database.execute(
            f"CREATE VIEW forever AS WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) "
            f'SELECT x AS fid, {geometry} FROM c, "{table}" WHERE ST_MinX({geometry}) IS NOT NULL'
        )
        for content in ("gpkg_contents", "gpkg_geometry_columns"):
            names = [row[1] for row in database.execute(f"PRAGMA table_info({content})")]
            values = ["'forever'" if name in {"table_name", "identifier"} else name for name in names]
            database.execute(f"INSERT INTO {content} SELECT {', '.join(values)} FROM {content}")
    database.close()
    return path
