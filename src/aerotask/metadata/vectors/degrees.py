"""Plausibility of coordinates that are said to be degrees: metres without a coordinate system become no map in the sea."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import CRSError

from aerotask.domain.paths import shown

MAX_LONGITUDE_DEG = 360.5
"""Longitudes may run from 0 to 360, and grids extend beyond by half a cell."""
MAX_LATITUDE_DEG = 90.0 + 1e-6
_MOST = 0.5

Bounds = tuple[float, float, float, float]
"""Smallest x and y, largest x and y."""
Boxes = NDArray[np.float64]
"""(n, 4): west, south, east, north; not finite for features without a geometry."""


def beyond_degrees(boxes: Boxes) -> NDArray[np.bool_]:
    """Mask of the boxes with coordinates that are no longitudes and latitudes."""
    limits = np.array([MAX_LONGITUDE_DEG, MAX_LATITUDE_DEG] * 2)
    beyond: NDArray[np.bool_] = np.greater(np.abs(boxes), limits).any(axis=1)
    return beyond


@dataclass(frozen=True, slots=True)
class LayerCoordinates:
    """Bounds of a layer without the features whose coordinates can't be degrees, if it is in degrees."""

    bounds: Bounds | None
    can_be_true: bool = True
    """Whether the coordinates can be in the coordinate system that the file names, or that GDAL assumes."""


def check_coordinates(crs: str | None, total: Bounds | None, boxes: Callable[[], Boxes]) -> LayerCoordinates:
    """Check whether a layer's coordinates can be the degrees that `crs` says, which GDAL assumes of any GeoJSON.

    `total` are the bounds of all features, and `boxes` reads those of each if that is needed: a few features with
    wrong coordinates don't make a layer one without a coordinate system.
    """
    if crs is None or total is None or not beyond_degrees(np.array([total]))[0] or not is_geographic(crs):
        return LayerCoordinates(total)
    each = boxes()
    each = each[np.isfinite(each).all(axis=1)]
    beyond = beyond_degrees(each)
    if not len(each) or float(beyond.mean()) > _MOST:
        return LayerCoordinates(total, can_be_true=False)
    west, south = each[~beyond, :2].min(axis=0)
    east, north = each[~beyond, 2:].max(axis=0)
    return LayerCoordinates((float(west), float(south), float(east), float(north)))


def why_not_degrees(layer: str, total: Bounds) -> str:
    """Explanation and remedy for a layer whose coordinates can't be degrees."""
    x, y = (max(total[axis], total[axis + 2], key=abs) for axis in (0, 1))
    return (
        f"The coordinates of layer {shown(layer)}, such as x = {x:,.0f} and y = {y:,.0f}, can't be longitudes and "
        "latitudes in degrees, and the file names no other coordinate system. Transform them to WGS 84 (EPSG:4326), or "
        "upload a GeoPackage or a Shapefile with a .prj that names theirs."
    )


def is_geographic(crs: str) -> bool:
    """Whether the CRS is one of longitudes and latitudes."""
    try:
        return bool(CRS.from_user_input(crs).is_geographic)
    except CRSError:
        return False
