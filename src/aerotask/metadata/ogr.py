"""pyogrio, imported without those of GDAL's drivers that take a file for a description of what to read elsewhere.

Every module that opens people's files by pyogrio imports it from here: GDAL registers its drivers once in a process.
"""

from __future__ import annotations

import os

POINTERS = (
    # These take a file for a description of what to open, to fetch or to start elsewhere.
    *("OGR_VRT", "GDALG", "HTTP", "WFS", "OAPIF", "OGCAPI", "CSW", "EEDA", "ADBC", "Elasticsearch", "Carto"),
    *("AmigoCloud", "PLSCENES", "NGW", "GPSBabel"),
    # These would take files for theirs that nothing here is made of.
    *("GeoRSS", "GTFS", "OSM", "LVBAG", "VDV", "MapML", "ODS", "XLSX", "OpenFileGDB", "AVCBin"),
)
"""Drivers that are not registered. (Vector tiles need SQLite's.)"""

_asked_for = os.environ.get("OGR_SKIP")
os.environ["OGR_SKIP"] = ",".join(POINTERS)

import pyogrio  # noqa: E402  reads it
import pyogrio.errors  # noqa: E402  as above
import pyogrio.raw  # noqa: E402  as above
from pyogrio.errors import DataLayerError, DataSourceError  # noqa: E402  as above

# rasterio's GDAL would read it, too.
del os.environ["OGR_SKIP"]
if _asked_for is not None:
    os.environ["OGR_SKIP"] = _asked_for

__all__ = ["POINTERS", "DataLayerError", "DataSourceError", "pyogrio"]
