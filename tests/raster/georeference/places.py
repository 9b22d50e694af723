"""Rasters of numbered pixels that control points or RPCs georeference, and CRSs of all kinds."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning
from rasterio.rpc import RPC
from rasterio.transform import from_origin
from tests.raster.rasters import write_raster

SHAPE = (300, 400)
RGB = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)


def numbered_pixels() -> Any:
    """Three bands whose colours are the numbers of the pixels, from 1."""
    numbers = np.arange(1, SHAPE[0] * SHAPE[1] + 1).reshape(SHAPE)
    return np.stack([numbers >> 16, numbers >> 8 & 255, numbers & 255]).astype(np.uint8)


def by_control_points(path: Path, points: list[GroundControlPoint], crs: str | None) -> Path:
    """A raster of numbered pixels that control points georeference."""
    write_raster(path, numbered_pixels(), crs=None, transform=None, colours=RGB)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "r+") as opened:
            opened.gcps = (points, CRS.from_user_input(crs) if crs else CRS())
    return path


def by_rpc(path: Path, rpc: RPC) -> Path:
    """A raster of numbered pixels that RPCs georeference."""
    return write_raster(path, numbered_pixels(), crs=None, transform=None, colours=RGB, rpcs=rpc)


def corner_points() -> list[GroundControlPoint]:
    """The corners of pixels of half a metre from (600,000, 5,000,000)."""
    height, width = SHAPE
    return [
        GroundControlPoint(row, col, 600_000 + col / 2, 5_000_000 - row / 2)
        for row, col in ((0, 0), (0, width), (height, 0), (height, width))
    ]


def bent_points() -> list[GroundControlPoint]:
    """Nine points of a raster that is turned, and bent by up to 15 pixels."""
    height, width = SHAPE
    points = []
    for row in (0, height / 2, height):
        for col in (0, width / 2, width):
            bent_col = col + 15 * (row / height) ** 2
            x = 600_000 + 0.48 * bent_col + 0.1 * row
            y = 5_000_000 + 0.1 * bent_col - 0.48 * row
            points.append(GroundControlPoint(row, col, x, y))
    return points


def camera_model(longitude: float = 10.0, latitude: float = 45.0) -> RPC:
    """RPCs of 0.003° × 0.0015° from above, slightly bent and turned, about a height of 400 m."""
    height, width = SHAPE
    zeros = [0.0] * 20
    one = [1.0, *zeros[1:]]
    # Of the 20 terms, the first are 1, longitude, latitude, height, longitude · latitude.
    rows, cols = zeros.copy(), zeros.copy()
    rows[1:5] = [0.05, -1.0, 0.02, 0.01]
    cols[1:5] = [1.0, 0.04, -0.01, 0.03]
    return RPC(
        height_off=400.0,
        height_scale=100.0,
        lat_off=latitude,
        lat_scale=0.00075,
        long_off=longitude,
        long_scale=0.0015,
        line_off=height / 2 - 0.5,
        line_scale=height / 2,
        samp_off=width / 2 - 0.5,
        samp_scale=width / 2,
        line_num_coeff=rows,
        line_den_coeff=one,
        samp_num_coeff=cols,
        samp_den_coeff=[1.0, 0.0, 0.01, *zeros[3:]],
    )


LOCAL_CRS = (
    'ENGCRS["a building site",EDATUM["the corner of the fence"],CS[Cartesian,2],AXIS["x",east,ORDER[1]],'
    'AXIS["y",north,ORDER[2]],LENGTHUNIT["metre",1]]'
)
UNKNOWN_DATUM = (
    'PROJCS["unnamed",GEOGCS["unknown",DATUM["unknown",SPHEROID["sphere",6371000,0]],PRIMEM["Greenwich",0],'
    'UNIT["degree",0.0174532925199433]],PROJECTION["Lambert_Azimuthal_Equal_Area"],PARAMETER["latitude_of_center",52],'
    'PARAMETER["longitude_of_center",10],PARAMETER["false_easting",0],PARAMETER["false_northing",0],UNIT["metre",1]]'
)
BOUND_CRS = (
    "+proj=tmerc +lat_0=0 +lon_0=9 +k=1 +x_0=3500000 +y_0=0 +ellps=bessel "
    "+towgs84=598.1,73.7,418.2,0.202,0.045,-2.455,6.7 +units=m +type=crs"
)
PLACES: dict[str, tuple[str, Any, bool]] = {
    # CRS, transform, and whether a map can show it.
    "utm": ("EPSG:32632", from_origin(500_000, 5_000_000, 0.5, 0.5), True),
    "polar-south": ("EPSG:3031", from_origin(-2_000_000, 1_500_000, 10_000, 10_000), True),
    "polar-north": ("EPSG:3413", from_origin(-2_000_000, 1_500_000, 10_000, 10_000), True),
    "polar-north-3995": ("EPSG:3995", from_origin(-1_000_000, -1_500_000, 1000, 1000), True),
    "at-the-pole": ("EPSG:3995", from_origin(-200_000, 150_000, 1000, 1000), True),
    "compound": ("EPSG:32633+5773", from_origin(500_000, 5_000_000, 0.5, 0.5), True),
    "bound": (BOUND_CRS, from_origin(3_500_000, 5_540_000, 0.5, 0.5), True),
    "unknown-datum": (UNKNOWN_DATUM, from_origin(0, 0, 10, 10), True),
    "half-a-globe": (
        "+proj=ortho +lat_0=40 +lon_0=10 +datum=WGS84 +type=crs",
        from_origin(-6_400_000, 4_800_000, 32_000, 32_000),
        True,
    ),
    "satellite-disc": (
        "+proj=geos +h=35785831 +lon_0=0 +sweep=y +datum=WGS84 +type=crs",
        from_origin(-5_500_000, 5_500_000, 27_500, 36_700),
        True,
    ),
    "degrees": ("EPSG:4326", from_origin(9.0, 45.0, 1e-5, 1e-5), True),
    "metres-as-degrees": ("EPSG:4326", from_origin(500_000, 5_000_000, 0.5, 0.5), False),
    "engineering": (LOCAL_CRS, from_origin(500, 500, 0.5, 0.5), False),
    "geocentric": ("EPSG:4978", from_origin(4_000_000, 700_000, 0.5, 0.5), False),
    "beyond-its-area": ("EPSG:32632", from_origin(5e9, 5e9, 1, 1), False),
}
