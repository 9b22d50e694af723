"""Small vector files, written by GDAL."""

from __future__ import annotations

import sqlite3
import struct
from contextlib import closing
from pathlib import Path

import numpy as np
from pyogrio.raw import write

DRIVERS = {
    "geojson": "GeoJSON",
    "gpkg": "GPKG",
    "shp": "ESRI Shapefile",
    "kml": "KML",
    "kmz": "LIBKML",
    "fgb": "FlatGeobuf",
    "gml": "GML",
    "dxf": "DXF",
}
TWO_POINTS = ((7.0, 50.0), (8.0, 51.0))


def write_points(
    path: Path,
    points: tuple[tuple[float, float], ...] = TWO_POINTS,
    *,
    crs: str = "EPSG:4326",
    layer: str | None = None,
    append: bool = False,
) -> Path:
    """Writes numbered points in the format of the path's suffix."""
    driver = DRIVERS[path.suffix[1:].lower()]
    fields = [] if driver == "DXF" else [np.arange(len(points))]
    write(
        path,
        geometry=np.array([struct.pack("<BIdd", 1, 1, x, y) for x, y in points], dtype=object),
        field_data=fields,
        fields=["number"][: len(fields)],
        geometry_type="Point",
        crs=crs,
        driver=driver,
        layer=layer,
        append=append,
    )
    return path


def add_view(path: Path, query: str) -> Path:
    """Adds a view `calculated` of this query as a layer of the GeoPackage."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"CREATE VIEW calculated AS {query}")
        connection.execute(
            "INSERT INTO gpkg_contents (table_name, data_type, identifier) VALUES ('calculated', 'attributes', 'x')"
        )
    return path


ENDLESS = "WITH RECURSIVE n(fid) AS (SELECT 1 UNION ALL SELECT fid + 1 FROM n) SELECT fid FROM n"
ENDLESS_IN_GDAL = (
    "WITH RECURSIVE n(fid) AS (SELECT ST_SRID(NULL) UNION ALL SELECT 1 FROM n) SELECT fid FROM n"
)
"""An endless query with a function of GDAL's, which SQLite by itself doesn't know."""
