"""Ground footprint of a photo, assuming flat ground at the take-off height."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

from aerotask.metadata.geojson import Position

Vector: TypeAlias = tuple[float, float, float]
"""East, north, up."""

# A ray closer to the horizon than this meets the ground too far away to be meaningful.
MIN_DEPRESSION_DEG = 10.0
MAX_HEIGHT_M = 20_000.0

# The WGS 84 ellipsoid (NGA.STND.0036, table 3.1).
_EQUATORIAL_RADIUS_M = 6_378_137.0
_ECCENTRICITY_SQUARED = 6.694379990141e-3


@dataclass(frozen=True, slots=True)
class CameraView:
    """Orientation and field of view of a camera in degrees; pitch −90 is straight down, yaw is clockwise from north."""

    yaw: float
    pitch: float
    roll: float
    width_fov: float
    """Full horizontal field of view."""
    height_fov: float


def footprint(longitude: float, latitude: float, height_m: float, view: CameraView) -> list[Position] | None:
    """Ground corners of a photo taken at `height_m` above the ground, clockwise from the image's upper left.

    None if a corner shows the sky or ground that is too far away. The ground is assumed to be flat.
    """
    if not 0 < height_m <= MAX_HEIGHT_M or abs(latitude) > 89:
        return None
    half_width = math.tan(math.radians(view.width_fov) / 2)
    half_height = math.tan(math.radians(view.height_fov) / 2)
    forward, right, up = _axes(view)
    corners = []
    for x, y in ((-1, 1), (1, 1), (1, -1), (-1, -1)):
        ray = _sum(forward, _scaled(right, x * half_width), _scaled(up, y * half_height))
        depression = math.degrees(math.atan2(-ray[2], math.hypot(ray[0], ray[1])))
        if depression < MIN_DEPRESSION_DEG:
            return None
        reach = height_m / -ray[2]
        corners.append(_moved(longitude, latitude, east_m=ray[0] * reach, north_m=ray[1] * reach))
    return corners


def _axes(view: CameraView) -> tuple[Vector, Vector, Vector]:
    """Unit vectors of the camera: forward, right and up."""
    yaw, pitch, roll = (math.radians(angle) for angle in (view.yaw, view.pitch, view.roll))
    forward = (math.sin(yaw) * math.cos(pitch), math.cos(yaw) * math.cos(pitch), math.sin(pitch))
    right = (math.cos(yaw), -math.sin(yaw), 0.0)
    up = (-math.sin(yaw) * math.sin(pitch), -math.cos(yaw) * math.sin(pitch), math.cos(pitch))
    cos, sin = math.cos(roll), math.sin(roll)
    return (
        forward,
        _sum(_scaled(right, cos), _scaled(up, -sin)),
        _sum(_scaled(up, cos), _scaled(right, sin)),
    )


def _moved(longitude: float, latitude: float, *, east_m: float, north_m: float) -> Position:
    """The position offset by metres, using the ellipsoid's radii of curvature."""
    sin = math.sin(math.radians(latitude))
    flattened = 1 - _ECCENTRICITY_SQUARED * sin * sin
    across_m = _EQUATORIAL_RADIUS_M / math.sqrt(flattened)
    along_m = across_m * (1 - _ECCENTRICITY_SQUARED) / flattened
    east = math.degrees(east_m / (across_m * math.cos(math.radians(latitude))))
    return longitude + east, latitude + math.degrees(north_m / along_m)


def _scaled(vector: Vector, factor: float) -> Vector:
    return vector[0] * factor, vector[1] * factor, vector[2] * factor


def _sum(*vectors: Vector) -> Vector:
    x, y, z = (math.fsum(parts) for parts in zip(*vectors, strict=True))
    return x, y, z
