"""Grids of rasters, and the common plane in which one is moved to fit the other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.warp import transform as project

from aerotask.raster.alignment.match.similarity import Points
from aerotask.raster.io import GDAL_ERRORS
from aerotask.raster.windows import Shape


@dataclass(frozen=True, slots=True)
class Grid:
    """Pixel grid in a plane: `to_plane` (2 × 3) maps (column, row) to (x, y).

    Positions are continuous: the first pixel extends from 0 to 1, with its centre at 0.5.
    """

    to_plane: Points
    shape_yx: Shape

    def plane_points(self, pixels: Points) -> Points:
        """Positions of the grid as points of the plane."""
        return pixels @ self.to_plane[:, :2].T + self.to_plane[:, 2]

    def pixels(self, points: Points) -> Points:
        """Points of the plane as positions of the grid."""
        inverse = np.linalg.inv(self.to_plane[:, :2])
        return (points - self.to_plane[:, 2]) @ inverse.T

    @property
    def pixel_length(self) -> float:
        """The side of a square that has a pixel's area."""
        return math.sqrt(abs(np.linalg.det(self.to_plane[:, :2])))

    def corners(self) -> Points:
        """The four corners of the grid, in pixels."""
        rows, cols = self.shape_yx
        return np.array([[0, 0], [cols, 0], [cols, rows], [0, rows]], np.float64)

    def part(self, *, left: float, top: float, step: float, shape_yx: Shape) -> Grid:
        """A grid with pixels `step` times as long, whose origin is a position of this one."""
        origin = self.plane_points(np.array([[left, top]], np.float64))[0]
        return Grid(np.column_stack([self.to_plane[:, :2] * step, origin]), shape_yx)


def map_grid(geotransform: Sequence[float], shape_yx: Shape) -> Grid:
    """The raster's own grid in its map coordinates, by GDAL's geotransform."""
    x0, x_by_col, x_by_row, y0, y_by_col, y_by_row = geotransform
    return Grid(np.array([[x_by_col, x_by_row, x0], [y_by_col, y_by_row, y0]], np.float64), shape_yx)


@dataclass(frozen=True, slots=True)
class CommonPlane:
    """Map coordinates about `centre`, with x scaled by `stretch` so that both axes have the same unit on the ground."""

    crs: str
    centre: tuple[float, float]
    stretch: float

    @classmethod
    def about(cls, centre: tuple[float, float], crs: str) -> CommonPlane:
        """The plane about a point of the map; degrees of longitude shrink by the cosine of the latitude."""
        is_geographic = CRS.from_user_input(crs).is_geographic
        return cls(crs, centre, math.cos(math.radians(centre[1])) if is_geographic else 1.0)

    def from_map(self, points: Points) -> Points:
        """Map coordinates as points of the plane."""
        return (points - self.centre) * (self.stretch, 1.0)

    def to_map(self, points: Points) -> Points:
        """Points of the plane in map coordinates."""
        return points / (self.stretch, 1.0) + self.centre

    def grid(self, in_map: Grid) -> Grid:
        """A grid in map coordinates as one in the plane."""
        matrix = in_map.to_plane.copy()
        matrix[:, 2] -= self.centre
        matrix[0] *= self.stretch
        return Grid(matrix, in_map.shape_yx)


def reproject(points: Points, crs_from: str, crs_to: str) -> Points:
    """Reproject points between two CRS; those that can't be projected become infinite."""
    if crs_from == crs_to:
        return points
    try:
        xs, ys = project(crs_from, crs_to, points[:, 0].tolist(), points[:, 1].tolist())
    except (*GDAL_ERRORS, ValueError):
        return np.full_like(points, np.inf)
    return np.column_stack([xs, ys])


def same_crs(one: str, other: str) -> bool:
    """Whether two CRS are equal, in any notation."""
    try:
        return one == other or bool(CRS.from_user_input(one) == CRS.from_user_input(other))
    except CRSError:
        return False
