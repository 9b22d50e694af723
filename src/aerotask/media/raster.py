"""What the index keeps of a raster: its profile, and where on Earth it lies."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rasterio.warp import transform

from aerotask.raster.header import read_profile
from aerotask.raster.io import GDAL_ERRORS, open_raster
from aerotask.raster.profile import RasterProfile

GeoJson = dict[str, Any]

WGS84 = "EPSG:4326"


@dataclass(frozen=True, slots=True)
class RasterDescription:
    """A raster's profile, with its outline and its centre as GeoJSON in EPSG:4326 where they are known."""

    profile: RasterProfile
    footprint: GeoJson | None
    centre: GeoJson | None

    @property
    def is_georeferenced(self) -> bool:
        """Whether the raster says where it lies."""
        return self.footprint is not None


def describe(path: Path) -> RasterDescription:
    """Read the raster's header; no pixels are touched.

    Raises:
        InvalidInput: the file is no raster that can be read here, or declares more than is sensible; the codes are
            those of `raster.io.open_raster`.
    """
    with open_raster(path) as source:
        profile = read_profile(source)
    located = _locate(profile)
    return RasterDescription(profile, *located) if located else RasterDescription(profile, None, None)


def _locate(profile: RasterProfile) -> tuple[GeoJson, GeoJson] | None:
    """The outline of the four corners and the centre, or None without a CRS that leads to EPSG:4326."""
    if profile.crs is None or profile.geotransform is None:
        return None
    x0, x_by_col, x_by_row, y0, y_by_col, y_by_row = profile.geotransform
    right, bottom = profile.width, profile.height
    places = [(0, 0), (0, bottom), (right, bottom), (right, 0), (right / 2, bottom / 2)]
    xs = [x0 + x_by_col * col + x_by_row * row for col, row in places]
    ys = [y0 + y_by_col * col + y_by_row * row for col, row in places]
    try:
        longitudes, latitudes = transform(profile.crs, WGS84, xs, ys)
    except (*GDAL_ERRORS, ValueError):
        return None
    positions = [[float(lon), float(lat)] for lon, lat in zip(longitudes, latitudes, strict=True)]
    if not all(math.isfinite(value) and abs(value) <= 360 for position in positions for value in position):
        return None
    *corners, centre = positions
    outline = {"type": "Polygon", "coordinates": [[*_anticlockwise(corners), _anticlockwise(corners)[0]]]}
    return outline, {"type": "Point", "coordinates": centre}


def _anticlockwise(corners: list[list[float]]) -> list[list[float]]:
    """The corners in the order that RFC 7946 asks for; a raster may be mirrored."""
    area = sum(
        x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in zip(corners, corners[1:] + corners[:1], strict=True)
    )
    return corners if area >= 0 else corners[::-1]
