"""Placement of a raster on the Earth: the one opinion that index, tiles and builds share."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import pyproj
import rasterio.errors
from pyproj import Transformer
from pyproj.exceptions import CRSError, ProjError
from rasterio.crs import CRS
from rasterio.transform import GCPTransformer, RPCTransformer
from rasterio.warp import transform_bounds

from aerotask.domain.errors import InvalidInput
from aerotask.raster.georeference.pixel_transforms import (
    AffinePixels,
    CurvedPixels,
    PixelTransform,
    Points,
    Positions,
)
from aerotask.raster.io import GDAL_ERRORS
from aerotask.raster.windows import Shape

PlacedBy = Literal["transform", "control-points", "rpc"]

WGS84 = CRS.from_epsg(4326)
MIN_CONTROL_POINTS = 3
_SAMPLES = 33
_EDGE_POINTS = 9
# Longitudes may range from 0 to 360, and grids whose cells are centred on the poles extend beyond them by half a cell.
_MAX_LONGITUDE, _MAX_LATITUDE = 360.5, 90.5


@dataclass(frozen=True, slots=True)
class Placement:
    """CRS of a raster, and the transformation between its pixels and that CRS."""

    crs: CRS
    pixels: PixelTransform
    shape_yx: Shape
    by: PlacedBy

    def lon_lat(self, cols: Positions, rows: Positions) -> Points:
        """Longitudes and latitudes in degrees (EPSG:4326); not finite where there is no such place."""
        lon, lat = _to_degrees(_wkt(self.crs)).transform(*self.pixels.to_crs(cols, rows))
        with np.errstate(invalid="ignore"):
            on_earth = (np.abs(lon) <= _MAX_LONGITUDE) & (np.abs(lat) <= _MAX_LATITUDE)
        lon[~on_earth] = lat[~on_earth] = np.nan
        return lon, lat

    def outer_bounds(self) -> tuple[float, float, float, float]:
        """Left, bottom, right and top in the CRS, also of a raster that is mirrored, south-up, rotated or curved."""
        is_affine = isinstance(self.pixels, AffinePixels)
        cols, rows = self._samples(2 if is_affine else _SAMPLES)
        x, y = self.pixels.to_crs(cols, rows)
        return float(np.nanmin(x)), float(np.nanmin(y)), float(np.nanmax(x)), float(np.nanmax(y))

    def outline(self) -> list[tuple[float, float]]:
        """The corners in the CRS, with points between them if the raster isn't affine; then its centre."""
        shares = np.linspace(0, 1, 2 if isinstance(self.pixels, AffinePixels) else _EDGE_POINTS)[:-1]
        zeros, ones = np.zeros_like(shares), np.ones_like(shares)
        down = np.concatenate([shares, ones, 1 - shares, zeros, [0.5]]) * self.shape_yx[0]
        across = np.concatenate([zeros, shares, ones, 1 - shares, [0.5]]) * self.shape_yx[1]
        x, y = self.pixels.to_crs(across, down)
        return list(zip(x.tolist(), y.tolist(), strict=True))

    def sampled_lon_lat(self) -> Points:
        """Longitudes and latitudes of places spread over the raster, as far as they are on the Earth."""
        lon, lat = self.lon_lat(*self._samples(_SAMPLES))
        known = np.isfinite(lon)
        return lon[known], lat[known]

    def _samples(self, count: int) -> Points:
        """Columns and rows of count² places spread over the raster, its edges included."""
        rows, cols = np.meshgrid(*(np.linspace(0, size, count) for size in self.shape_yx), indexing="ij")
        return cols, rows


def earth_crs(crs: CRS) -> pyproj.CRS:
    """The CRS of rasterio for PROJ, which transforms each point by itself: GDAL fails when many have no place.

    Raises:
        pyproj.exceptions.CRSError: PROJ doesn't know it.
    """
    return _parsed(_wkt(crs))


def _wkt(crs: CRS) -> str:
    return str(crs.to_wkt(version="WKT2_2019"))


@lru_cache(maxsize=32)
def _parsed(wkt: str) -> pyproj.CRS:
    return pyproj.CRS.from_wkt(wkt)


@lru_cache(maxsize=32)
def _to_degrees(wkt: str) -> Transformer:
    return Transformer.from_crs(_parsed(wkt), "EPSG:4326", always_xy=True)


def bounds_deg(placement: Placement) -> tuple[float, float, float, float]:
    """West, south, east and north in degrees (EPSG:4326), west within −180…180.

    A raster across the antimeridian has bounds around the world, as TileJSON 3.0 asks for.
    """
    west, south, east, north = _transformed_bounds(placement)
    turns = 360 * math.floor((west + 180) / 360)  # of longitudes from 0 to 360, for example
    west, east = west - turns, east - turns
    if west > east or east > 180:  # across the antimeridian
        west, east = -180.0, 180.0
    return west, max(south, -90.0), east, min(north, 90.0)


def _transformed_bounds(placement: Placement) -> tuple[float, float, float, float]:
    if isinstance(placement.pixels, AffinePixels):
        with suppress(*GDAL_ERRORS, ValueError):
            found = transform_bounds(placement.crs, WGS84, *placement.outer_bounds())
            if all(map(math.isfinite, found)):
                west, south, east, north = map(float, found)
                return west, south, east, north
    lon, lat = placement.sampled_lon_lat()
    if lon.max() - lon.min() > 180:
        lon = np.where(lon < 0, lon + 360, lon)
    return float(lon.min()), float(lat.min()), float(lon.max()), float(lat.max())


def placement_of(source: Any) -> Placement:
    """The placement of an open raster: by its transform, else its control points, else its RPCs.

    RPCs are evaluated at the height that they are centred on (HEIGHT_OFF).

    Raises:
        InvalidInput: it has no georeference, or one that says nothing about its place on the Earth
            (`not-georeferenced`).
    """
    placement = _stated(source)
    try:
        crs = earth_crs(placement.crs)
        is_local = not (crs.is_geographic or crs.is_projected)
        lon, _ = (np.empty(0), np.empty(0)) if is_local else placement.sampled_lon_lat()
    except (ProjError, rasterio.errors.CRSError, CRSError) as error:
        raise _not_georeferenced(
            "Its coordinate system can't be converted to longitudes and latitudes; assign another one (gdal_edit "
            "-a_srs EPSG:…)"
        ) from error
    if is_local:
        raise _not_georeferenced(
            "Its coordinate system is a local or geocentric one, which has no known relation to maps; assign the right "
            "one (gdal_edit -a_srs EPSG:…)"
        )
    if crs.is_geographic and lon.size < _SAMPLES**2:
        raise _not_georeferenced(
            "Its coordinates can't be degrees, but its coordinate system says so; assign the right one (gdal_edit "
            "-a_srs EPSG:…)"
        )
    if not lon.size:
        raise _not_georeferenced(
            "Its coordinates lie outside of its coordinate system; assign the right one (gdal_edit -a_srs EPSG:…)"
        )
    return placement


def _stated(source: Any) -> Placement:
    """The placement that the raster's tags state."""
    shape_yx = source.height, source.width
    gcps, gcps_crs = source.gcps
    if source.transform.is_identity and len(gcps) >= MIN_CONTROL_POINTS and gcps_crs:
        return Placement(gcps_crs, _curved(GCPTransformer, gcps, shape_yx), shape_yx, "control-points")
    if source.transform.is_identity and source.rpcs is not None:
        rpcs = source.rpcs
        return Placement(
            WGS84, _curved(RPCTransformer, rpcs, shape_yx, RPC_HEIGHT=rpcs.height_off), shape_yx, "rpc"
        )
    if source.crs and source.transform.determinant and not source.transform.is_identity:
        return Placement(source.crs, AffinePixels(source.transform), shape_yx, "transform")
    raise _not_georeferenced(_lacking(source))


def _curved(transformer: Any, parameters: Any, shape_yx: Shape, **options: Any) -> PixelTransform:
    try:
        return CurvedPixels(transformer(parameters, **options), shape_yx)
    except (*GDAL_ERRORS, ValueError, TypeError) as error:
        raise _not_georeferenced(
            "Its control points or RPCs can't be used (they may lie on a line); warp it with others (gdalwarp)"
        ) from error


def _lacking(source: Any) -> str:
    gcps, _ = source.gcps
    if gcps:
        return (
            f"It has {len(gcps)} control points without a coordinate system; assign it (gdal_edit -a_srs EPSG:…)"
            if len(gcps) >= MIN_CONTROL_POINTS
            else f"It has {len(gcps)} control points; at least {MIN_CONTROL_POINTS} are needed"
        )
    if not source.transform.determinant:
        return "Its transform gives its pixels no area; assign its bounds (gdal_edit -a_ullr …)"
    if source.crs:
        return (
            "It has a coordinate system but no position; put a world file beside it, or assign its bounds (gdal_edit "
            "-a_ullr …)"
        )
    if not source.transform.is_identity:
        return (
            "Its transform is in an unknown coordinate system; put a .prj file beside it, or assign the coordinate "
            "system (gdal_edit -a_srs EPSG:…)"
        )
    return (
        "Put a world file and a .prj file beside it, or assign a coordinate system and bounds (gdal_edit -a_srs … "
        "-a_ullr …)"
    )


def _not_georeferenced(advice: str) -> InvalidInput:
    return InvalidInput(
        f"The raster is not georeferenced, so it can't be shown on a map. {advice}.", code="not-georeferenced"
    )
