"""The rasters that a child has open: the last few stay open, with GDAL's cache of their blocks."""

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

KEPT_OPEN = 8
"""Files and overviews of files."""
WEB_MERCATOR = "EPSG:3857"
WGS84 = "EPSG:4326"
MERCATOR_LATITUDE = 85.05
"""Beyond it there is no map."""


@dataclass(frozen=True, slots=True)
class OpenRaster:
    """An open raster, or one of its overviews, and what its header says."""

    source: Any
    profile: RasterProfile


class DatasetCache:
    """Opens rasters through the one door, and closes those that haven't been used for longest; all with the block."""

    def __init__(self) -> None:
        self._open: OrderedDict[tuple[Path, int | None], tuple[ExitStack, OpenRaster]] = OrderedDict()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        while self._open:
            newest, _ = self._open.popitem()[1]
            newest.close()

    def get(self, path: Path, *, overview_level: int | None = None) -> OpenRaster:
        """The raster at `path`, whose content never changes.

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
        if len(self._open) > KEPT_OPEN:
            oldest, _ = self._open.popitem(last=False)[1]
            oldest.close()
        return opened


def bounds_deg(raster: OpenRaster) -> tuple[float, float, float, float] | None:
    """Where the raster lies, in degrees of EPSG:4326, or None if it doesn't say."""
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
    """How large the raster's pixels are on the web map, in metres of EPSG:3857.

    Raises:
        InvalidInput: the raster can't be put on that map (`not-georeferenced`).
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
            "The raster lies where no web map reaches, so it can't be put on one.", code="not-georeferenced"
        ) from error
    return abs(float(grid.a))
