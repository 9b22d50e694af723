"""Small vector files, written by GDAL."""

from __future__ import annotations

import struct
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
