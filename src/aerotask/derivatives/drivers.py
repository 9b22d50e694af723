"""GDAL's drivers for vector files that must never be registered in a process that opens people's files."""

from __future__ import annotations

_POINTERS = (
    # These take a file for a description of what to open, to fetch or to start elsewhere.
    *("OGR_VRT", "GDALG", "HTTP", "WFS", "OAPIF", "OGCAPI", "CSW", "EEDA", "ADBC", "Elasticsearch", "Carto"),
    *("AmigoCloud", "PLSCENES", "NGW", "GPSBabel"),
    # These would take files for theirs that nothing here is made of.
    *("GeoRSS", "GTFS", "OSM", "LVBAG", "VDV", "MapML", "ODS", "XLSX", "SQLite", "OpenFileGDB", "Idrisi"),
    *("AVCBin", "AIVector"),
)

SKIP_DRIVERS = {"OGR_SKIP": ",".join(_POINTERS)}
"""For the environment: GDAL reads it once, when it registers its drivers, as pyogrio is imported."""
