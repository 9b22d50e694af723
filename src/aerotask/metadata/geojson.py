"""Footprints as GeoJSON in EPSG:4326, cut where they cross the antimeridian (RFC 7946, 3.1.9)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from rasterio.warp import transform

from aerotask.raster.io import GDAL_ERRORS

GeoJson = dict[str, Any]
Position = tuple[float, float]
Bounds = tuple[float, float, float, float]
"""West, south, east, north; east exceeds 180 if the antimeridian is crossed."""

WGS84 = "EPSG:4326"
_STEPS = 16
"""Points per edge, dense enough to follow an edge around the Earth in the right direction."""
_NEXT_TO_NOTHING_DEG = 1e-6
# Grids whose cells are centred on the poles or the antimeridian extend beyond them by half a cell.
_HALF_A_CELL_DEG = 0.5


@dataclass(frozen=True, slots=True)
class Footprint:
    """An outline and its centre."""

    outline: GeoJson
    centre: GeoJson
    bounds: Bounds


def point(longitude: float, latitude: float, height_m: float | None = None) -> GeoJson:
    """GeoJSON point; the height comes last (RFC 7946, 3.1.1)."""
    return {"type": "Point", "coordinates": [longitude, latitude, *([] if height_m is None else [height_m])]}


def polygon(corners: Sequence[Position]) -> GeoJson:
    """GeoJSON of a convex polygon whose longitudes may exceed ±180 as long as they don't jump.

    One closed ring, counterclockwise as RFC 7946 asks for; two polygons if it crosses the antimeridian.
    """
    around = _from_west(corners)
    longitudes = [longitude for longitude, _ in around]
    if max(longitudes) - min(longitudes) >= 360:
        return {"type": "Polygon", "coordinates": [_ring(_band(around))]}
    if max(longitudes) <= 180:
        return {"type": "Polygon", "coordinates": [_ring(around)]}
    east = [(longitude - 360, latitude) for longitude, latitude in _cut(around, side=1)]
    return {"type": "MultiPolygon", "coordinates": [[_ring(_cut(around, side=-1))], [_ring(east)]]}


def footprint_of(crs: Any, corners: Sequence[Position], centre: Position) -> Footprint | None:
    """Footprint of corners and a centre in `crs`; None if they can't be transformed to EPSG:4326."""
    xs, ys = zip(*_walk([centre, *corners, corners[0]]), strict=True)
    try:
        longitudes, latitudes = transform(crs, WGS84, xs, ys)
    except (*GDAL_ERRORS, ValueError):
        return None
    steady = _steady(longitudes)
    found = list(zip(steady[::_STEPS], latitudes[::_STEPS], strict=True))
    if not all(map(_is_on_earth, longitudes[::_STEPS], latitudes[::_STEPS])):
        return None
    middle, *around, last = [(float(lon), min(max(float(lat), -90.0), 90.0)) for lon, lat in found]
    if abs(last[0] - around[0][0]) > 180:
        around = _cap([latitude for latitude in latitudes if math.isfinite(latitude)])
    return _footprint(around, middle)


def footprint_of_bounds(crs: str, bounds: tuple[float, float, float, float]) -> Footprint | None:
    """Footprint of the rectangle `(min x, min y, max x, max y)` in `crs`."""
    x0, y0, x1, y1 = bounds
    return footprint_of(crs, [(x0, y0), (x1, y0), (x1, y1), (x0, y1)], ((x0 + x1) / 2, (y0 + y1) / 2))


def footprint_of_all(bounds: Sequence[Bounds]) -> Footprint:
    """Smallest rectangle in degrees around one or more bounds."""
    west, south, east, north = bounds[0]
    for other_west, other_south, other_east, other_north in bounds[1:]:
        ways = [(min(west, other_west + turn), max(east, other_east + turn)) for turn in (-360.0, 0.0, 360.0)]
        west, east = min(ways, key=lambda way: way[1] - way[0])
        south, north = min(south, other_south), max(north, other_north)
    around = [(west, south), (east, south), (east, north), (west, north)]
    return _footprint(around, ((west + east) / 2, (south + north) / 2))


def _footprint(around: Sequence[Position], middle: Position) -> Footprint:
    longitudes, latitudes = zip(*_from_west(around), strict=True)
    # Python's remainder is never negative; 180 itself stays.
    longitude = middle[0] if abs(middle[0]) <= 180 else (middle[0] + 180) % 360 - 180
    return Footprint(
        polygon(around),
        point(longitude, middle[1]),
        (min(longitudes), min(latitudes), max(longitudes), max(latitudes)),
    )


def _walk(corners: Sequence[Position]) -> Iterator[Position]:
    """The corners with points between them; each corner is a multiple of `_STEPS` away from the first."""
    for (x0, y0), (x1, y1) in pairwise(corners):
        for step in range(_STEPS):
            yield x0 + (x1 - x0) * step / _STEPS, y0 + (y1 - y0) * step / _STEPS
    yield corners[-1]


def _steady(longitudes: Sequence[float]) -> list[float]:
    """Unwrapped longitudes: each less than 180° from the one before."""
    steady: list[float] = []
    before: float | None = None
    for longitude in longitudes:
        if math.isfinite(longitude):
            before = longitude if before is None else longitude + 360 * round((before - longitude) / 360)
        steady.append(longitude if before is None else before)
    return steady


def _is_on_earth(longitude: float, latitude: float) -> bool:
    """Whether the coordinates are valid; longitudes may range from 0 to 360."""
    return abs(longitude) <= 360 + _HALF_A_CELL_DEG and abs(latitude) <= 90 + _HALF_A_CELL_DEG


def _cap(latitudes: Sequence[float]) -> list[Position]:
    """Polar cap: from a pole to the latitude farthest from it."""
    if math.fsum(latitudes) > 0:
        return _band([(-180, min(latitudes)), (180, 90)])
    return _band([(-180, -90), (180, max(latitudes))])


def _band(corners: Sequence[Position]) -> list[Position]:
    """Band around the Earth between the smallest and the largest latitude."""
    latitudes = [latitude for _, latitude in corners]
    south, north = min(latitudes), max(latitudes)
    return [(-180, south), (180, south), (180, north), (-180, north)]


def _from_west(corners: Sequence[Position]) -> list[Position]:
    """The corners shifted by whole turns so that the westernmost is in [-180, 180)."""
    west = min(longitude for longitude, _ in corners)
    turn = 360 * math.floor((west + 180 + _NEXT_TO_NOTHING_DEG) / 360)
    turned = [(longitude - turn, latitude) for longitude, latitude in corners]
    return [(_without_excess(longitude), latitude) for longitude, latitude in turned]


def _without_excess(longitude: float) -> float:
    excess = abs(longitude) - 180
    return math.copysign(180, longitude) if 0 < excess <= _NEXT_TO_NOTHING_DEG else longitude


def _cut(corners: Sequence[Position], *, side: int) -> list[Position]:
    """The part of a convex polygon west (−1) or east (1) of 180° (Sutherland and Hodgman, 1974)."""
    kept: list[Position] = []
    for (x0, y0), (x1, y1) in pairwise([corners[-1], *corners]):
        if (x0 - 180) * (x1 - 180) < 0:
            kept.append((180.0, y0 + (y1 - y0) * (180 - x0) / (x1 - x0)))
        if (x1 - 180) * side >= 0:
            kept.append((x1, y1))
    return kept


def _ring(corners: Sequence[Position]) -> list[list[float]]:
    ring = [list(corner) for corner in corners]
    area = sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in zip(ring, ring[1:] + ring[:1], strict=True))
    ordered = ring if area >= 0 else ring[::-1]
    return [*ordered, ordered[0]]
