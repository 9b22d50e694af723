"""Path traversal attacks against entry paths."""

from __future__ import annotations

PATH_ATTACKS = (
    "../x.tif",
    "a/../../x.tif",
    "/etc/passwd",
    "a\\..\\b",
    "%2e%2e%2fx",
    "a\u0000b",
    "\uff0e\uff0e/x",
    "x" * 2000,
    ".ddb/x",
    "zip://a.zip",
    "/vsicurl/http://127.0.0.1/x.tif",
    "NETCDF:a.nc",
    "a\u202eb",
)
