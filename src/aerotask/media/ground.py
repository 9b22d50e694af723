"""Places on the ground as GeoJSON in EPSG:4326."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rasterio.warp import transform

from aerotask.raster.io import GDAL_ERRORS

GeoJson = dict[str, Any]
Position = tuple[float, float]

WGS84 = "EPSG:4326"


@dataclass(frozen=True, slots=True)
class Place:
    """An outline and its centre."""

    outline: GeoJson
    centre: GeoJson


def point(longitude: float, latitude: float, height_m: float | None = None) -> GeoJson:
    """A point; RFC 7946 has the height last."""
    return {"type": "Point", "coordinates": [longitude, latitude, *([] if height_m is None else [height_m])]}


def polygon(corners: Sequence[Position]) -> GeoJson:
    """A polygon of one ring around the corners, closed and in the direction that RFC 7946 asks for."""
    ring = [list(corner) for corner in corners]
    area = sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in zip(ring, ring[1:] + ring[:1], strict=True))
    ordered = ring if area >= 0 else ring[::-1]
    return {"type": "Polygon", "coordinates": [[*ordered, ordered[0]]]}


def place_of(crs: str, corners: Sequence[Position], centre: Position) -> Place | None:
    """Where corners and a centre in `crs` lie; None if no way leads from there to EPSG:4326."""
    xs, ys = zip(*corners, centre, strict=True)
    try:
        longitudes, latitudes = transform(crs, WGS84, xs, ys)
    except (*GDAL_ERRORS, ValueError):
        return None
    positions = [(float(lon), float(lat)) for lon, lat in zip(longitudes, latitudes, strict=True)]
    if not all(math.isfinite(value) and abs(value) <= 360 for position in positions for value in position):
        return None
    *around, middle = positions
    return Place(polygon(around), point(*middle))


def place_of_bounds(crs: str, bounds: tuple[float, float, float, float]) -> Place | None:
    """Where the rectangle `(min x, min y, max x, max y)` in `crs` lies."""
    x0, y0, x1, y1 = bounds
    return place_of(crs, [(x0, y0), (x1, y0), (x1, y1), (x0, y1)], ((x0 + x1) / 2, (y0 + y1) / 2))
