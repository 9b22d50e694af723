"""Tile matrix of web maps (WebMercatorQuad, OGC 17-083r4): indexes and bounds of tiles."""

from __future__ import annotations

import math
from dataclasses import dataclass

MAX_ZOOM = 24
EARTH_RADIUS_M = 6378137.0
"""The sphere's radius of EPSG:3857."""
HALF_WORLD_M = math.pi * EARTH_RADIUS_M

Bounds = tuple[float, float, float, float]
"""West, south, east, north."""


@dataclass(frozen=True, slots=True)
class TileIndex:
    """Tile index: zoom, column from the west and row from the north."""

    z: int
    x: int
    y: int

    @property
    def exists(self) -> bool:
        """Whether the tile matrix has such a tile."""
        return 0 <= self.z <= MAX_ZOOM and 0 <= self.x < 2**self.z and 0 <= self.y < 2**self.z

    def bounds_m(self) -> Bounds:
        """The tile's bounds in metres of EPSG:3857."""
        side = 2 * HALF_WORLD_M / 2**self.z
        west, north = self.x * side - HALF_WORLD_M, HALF_WORLD_M - self.y * side
        return west, north - side, west + side, north

    def bounds_deg(self) -> Bounds:
        """The tile's bounds in degrees of EPSG:4326."""
        west, south, east, north = self.bounds_m()
        return _longitude(west), _latitude(south), _longitude(east), _latitude(north)

    def intersects(self, bounds_deg: Bounds) -> bool:
        """Whether the tile intersects the bounds, in degrees."""
        west, south, east, north = self.bounds_deg()
        return (
            west < bounds_deg[2] and bounds_deg[0] < east and south < bounds_deg[3] and bounds_deg[1] < north
        )


def _longitude(x_m: float) -> float:
    return math.degrees(x_m / EARTH_RADIUS_M)


def _latitude(y_m: float) -> float:
    return math.degrees(math.atan(math.sinh(y_m / EARTH_RADIUS_M)))
