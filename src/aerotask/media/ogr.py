"""pyogrio, imported without those of GDAL's drivers that take a file for a description of what to read elsewhere.

Every module that opens people's files by pyogrio imports it from here: GDAL registers its drivers once in a process.
"""

from __future__ import annotations

import os

POINTERS = (
    *("OGR_VRT", "GDALG", "HTTP", "WFS", "OAPIF", "OGCAPI", "CSW", "EEDA", "ADBC", "Elasticsearch", "Carto"),
    *("AmigoCloud", "PLSCENES", "NGW", "GPSBabel"),
)
"""Drivers that are not registered."""

_asked_for = os.environ.get("OGR_SKIP")
os.environ["OGR_SKIP"] = ",".join(POINTERS)

import pyogrio  # noqa: E402  reads it
from pyogrio.errors import DataLayerError, DataSourceError  # noqa: E402  as above

# rasterio's GDAL would read it, too.
del os.environ["OGR_SKIP"]
if _asked_for is not None:
    os.environ["OGR_SKIP"] = _asked_for

__all__ = ["POINTERS", "DataLayerError", "DataSourceError", "pyogrio"]
