"""Tables in CSV whose columns hold longitudes and latitudes."""

from __future__ import annotations

import csv
from collections.abc import Mapping

_LONGITUDES = ("longitude", "lon", "lng", "long", "gpslongitude", "gps_longitude")
_LATITUDES = ("latitude", "lat", "gpslatitude", "gps_latitude")
_SEPARATORS = ",;\t|"
CSV_OPTIONS: Mapping[str, str] = {
    "X_POSSIBLE_NAMES": ",".join(_LONGITUDES),
    "Y_POSSIBLE_NAMES": ",".join(_LATITUDES),
    "AUTODETECT_TYPE": "YES",
    "HEADERS": "YES",
}
"""GDAL's options to make points of such a table."""


def is_located_table(head: bytes) -> bool:
    """Whether a table that begins like this has a column of longitudes and one of latitudes, by their names."""
    first = head.removeprefix(b"\xef\xbb\xbf").split(b"\n", 1)[0]
    if not first or b"\0" in first:
        return False
    line = first.decode("utf-8", errors="replace").strip("\r")
    separator = max(_SEPARATORS, key=line.count)
    try:
        names = {name.strip().lower() for name in next(csv.reader([line], delimiter=separator), [])}
    except csv.Error:
        return False
    return bool(names & set(_LONGITUDES)) and bool(names & set(_LATITUDES))
