"""LRU cache of open raster datasets in a render child, which also keeps GDAL's block cache of them."""

from __future__ import annotations

import math
from collections import OrderedDict
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from rasterio.warp import calculate_default_transform, transform_bounds

from aerotask.domain.errors import InvalidInput
from aerotask.raster.header import read_profile
from aerotask.raster.io import GDAL_ERRORS, open_raster
from aerotask.raster.profile import RasterProfile

MAX_OPEN = 8
"""Open files, where each overview level counts as a file."""
WEB_MERCATOR = "EPSG:3857"
WGS84 = "EPSG:4326"
MERCATOR_LATITUDE = 85.05
"""Highest latitude of the web map, north and south."""


@dataclass(frozen=True, slots=True)
class OpenRaster:
    """Open raster dataset, or one of its overviews, with the profile of the raster."""

    source: Any
    profile: RasterProfile


class DatasetCache:
    """Context manager that opens rasters, closes the least recently used ones, and all at the end."""

    def __init__(self) -> None:
        self._open: OrderedDict[tuple[Path, int | None], tuple[ExitStack, OpenRaster]] = OrderedDict()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        while self._open:
            stack, _ = self._open.popitem()[1]
            stack.close()

    def get(self, path: Path, *, overview_level: int | None = None) -> OpenRaster:
        """The open raster at `path`, whose content must never change.

        Raises:
            InvalidInput: as `raster.io.open_raster`.
        """
        key = (path, overview_level)
        if key in self._open:
            self._open.move_to_end(key)
            return self._open[key][1]
        stack = ExitStack()
        try:
            source = stack.enter_context(open_raster(path, overview_level=overview_level))
            profile = read_profile(source) if overview_level is None else self.get(path).profile
        except BaseException:
            stack.close()
            raise
        opened = OpenRaster(source, profile)
        self._open[key] = (stack, opened)
        if len(self._open) > MAX_OPEN:
            oldest, _ = self._open.popitem(last=False)[1]
            oldest.close()
        return opened


def bounds_deg(raster: OpenRaster) -> tuple[float, float, float, float] | None:
    """The raster's bounds in degrees (EPSG:4326), or None without a georeference."""
    if raster.profile.crs is None or raster.profile.geotransform is None:
        return None
    try:
        west, south, east, north = transform_bounds(raster.source.crs, WGS84, *raster.source.bounds)
    except (*GDAL_ERRORS, ValueError):
        return None
    if not all(map(math.isfinite, (west, south, east, north))):
        return None
    if west > east:  # across the antimeridian
        west, east = -180.0, 180.0
    return max(west, -180.0), max(south, -90.0), min(east, 180.0), min(north, 90.0)


def resolution_m(raster: OpenRaster) -> float:
    """The raster's pixel size on the web map, in metres of EPSG:3857.

    Raises:
        InvalidInput: the raster lies outside the web map (`not-georeferenced`).
    """
    source = raster.source
    left, bottom, right, top = source.bounds
    if source.crs == WGS84:
        bottom, top = max(bottom, -MERCATOR_LATITUDE), min(top, MERCATOR_LATITUDE)
    try:
        grid, _, _ = calculate_default_transform(
            source.crs, WEB_MERCATOR, source.width, source.height, left, bottom, right, top
        )
    except (*GDAL_ERRORS, ValueError) as error:
        raise InvalidInput(
            "The raster lies outside the area of web maps, so it has no map tiles.", code="not-georeferenced"
        ) from error
    return abs(float(grid.a))
