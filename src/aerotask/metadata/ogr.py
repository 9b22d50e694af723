"""pyogrio with GDAL's pointer drivers disabled, which read a file as a description of what to open elsewhere.

Every module that opens uploaded files with pyogrio imports it from here: GDAL registers its drivers once per process.
"""

from __future__ import annotations

import os

POINTERS = (
    # They treat a file as a description of what to open, fetch or run elsewhere.
    *("OGR_VRT", "GDALG", "HTTP", "WFS", "OAPIF", "OGCAPI", "CSW", "EEDA", "ADBC", "Elasticsearch", "Carto"),
    *("AmigoCloud", "PLSCENES", "NGW", "GPSBabel"),
    # They would claim files of formats that are not supported here.
    *("GeoRSS", "GTFS", "OSM", "LVBAG", "VDV", "MapML", "ODS", "XLSX", "OpenFileGDB", "AVCBin"),
)
"""Drivers that are not registered. (Vector tiles need the SQLite driver.)"""

_configured = os.environ.get("OGR_SKIP")
os.environ["OGR_SKIP"] = ",".join(POINTERS)

import pyogrio  # noqa: E402  reads OGR_SKIP
import pyogrio.errors  # noqa: E402  as above
import pyogrio.raw  # noqa: E402  as above
from pyogrio.errors import DataLayerError, DataSourceError  # noqa: E402  as above

# rasterio's GDAL would read it too.
del os.environ["OGR_SKIP"]
if _configured is not None:
    os.environ["OGR_SKIP"] = _configured

__all__ = ["POINTERS", "DataLayerError", "DataSourceError", "pyogrio"]
