"""LRU cache of open raster datasets in a render child, which also keeps GDAL's block cache of them."""

from __future__ import annotations

import math
from collections import OrderedDict
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from rasterio.warp import transform_bounds

from aerotask.raster.header import outer_bounds, read_profile
from aerotask.raster.io import GDAL_ERRORS, open_raster
from aerotask.raster.pixel_mapping import PixelMapper
from aerotask.raster.profile import RasterProfile

MAX_OPEN = 8
"""Open files, where each overview level counts as a file."""
WGS84 = "EPSG:4326"


@dataclass(frozen=True, slots=True)
class OpenRaster:
    """Open raster dataset, or one of its overviews, with the profile of the raster."""

    source: Any
    profile: RasterProfile


@dataclass(frozen=True, slots=True)
class RasterFiles:
    """Files of which a raster is drawn."""

    image: Path
    """The COG derivative if there is one, else the original."""
    overviews: Path | None = None
    """Those that the image lacks (`derivatives.overviews`), if they have been made."""


class DatasetCache:
    """Context manager that opens rasters, closes the least recently used ones, and all at the end."""

    def __init__(self) -> None:
        self._open: OrderedDict[tuple[Path, int | None], tuple[ExitStack, OpenRaster]] = OrderedDict()
        self._mappers: OrderedDict[Path, PixelMapper] = OrderedDict()

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

    def profile(self, files: RasterFiles) -> RasterProfile:
        """The profile of the raster, with all overviews.

        Raises:
            InvalidInput: as `get`.
        """
        profile = self.get(files.image).profile
        if files.overviews is None:
            return profile
        further = self.get(files.overviews).profile
        sizes = (*profile.overview_sizes, (further.width, further.height), *further.overview_sizes)
        return replace(profile, overview_sizes=sizes)

    def level(self, files: RasterFiles, level: int | None) -> OpenRaster:
        """The open raster, or its overview with that number in `profile`.

        Raises:
            InvalidInput: as `get`.
        """
        whole = self.get(files.image)
        own = len(whole.profile.overview_sizes)
        if level is None or level < own or files.overviews is None:
            return self.get(files.image, overview_level=level)
        further = self.get(files.overviews, overview_level=level - own - 1 if level > own else None)
        return OpenRaster(further.source, whole.profile)

    def mapper(self, path: Path) -> PixelMapper:
        """The mapper from the web map to pixels of the georeferenced raster at `path`.

        Raises:
            InvalidInput: as `get` and `PixelMapper.create`.
        """
        if path not in self._mappers:
            source = self.get(path).source
            self._mappers[path] = PixelMapper.create(source.crs, source.transform, source.shape)
            if len(self._mappers) > MAX_OPEN:
                self._mappers.popitem(last=False)
        self._mappers.move_to_end(path)
        return self._mappers[path]


def bounds_deg(raster: OpenRaster) -> tuple[float, float, float, float] | None:
    """The raster's bounds in degrees (EPSG:4326), west within -180…180, or None without a georeference."""
    if raster.profile.crs is None or raster.profile.geotransform is None:
        return None
    try:
        west, south, east, north = transform_bounds(raster.source.crs, WGS84, *outer_bounds(raster.source))
    except (*GDAL_ERRORS, ValueError):
        return None
    if not all(map(math.isfinite, (west, south, east, north))):
        return None
    around = 360 * math.floor((west + 180) / 360)  # of longitudes from 0 to 360, for example
    west, east = west - around, east - around
    if west > east or east > 180:  # across the antimeridian
        west, east = -180.0, 180.0
    return west, max(south, -90.0), east, min(north, 90.0)
