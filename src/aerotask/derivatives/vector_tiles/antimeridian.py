"""Geometries around the antimeridian: longitudes that jump are continued, and geometries beyond ±180° are cut and wrapped.

RFC 7946, 3.1.9, asks writers to cut at ±180°; what the field writes has longitudes beyond 180°, or a jump from 179.9° to
−179.9°, or, after a transformation from a projected system, any jump.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.affinity import translate
from shapely.geometry.base import BaseGeometry

MAX_LATITUDE_DEG = math.degrees(math.atan(math.sinh(math.pi)))
"""Edge of the square map in Web Mercator, 85.0511°."""
NEAR_DEG = 10.0
"""Both ends of a jump are this close to ±180° (as for GDAL's `-datelineoffset`); a longer edge goes around the Earth."""

_Coordinates = NDArray[np.float64]
_WORLD_DEG = 360.0
_TOLERANCE_DEG = 1e-9


def without_jumps(geometry: BaseGeometry, *, any_jump: bool) -> BaseGeometry:
    """The geometry with continuous longitudes, which may exceed ±180°; `any_jump` of more than 180° is one.

    A ring around a pole, which only a projected system can hold, is closed along that pole.
    """
    return _each_part(geometry, lambda part: _continued(part, any_jump=any_jump))


def cut(geometry: BaseGeometry) -> BaseGeometry:
    """The part of the geometry that the map shows, with longitudes in [−180, 180]; polygons have to be valid."""
    if shapely.get_dimensions(geometry) == 0:
        return _wrapped_points(geometry)
    west, _, east, _ = geometry.bounds
    turns = range(math.floor((west + 180) / _WORLD_DEG), math.ceil((east - 180) / _WORLD_DEG) + 1)
    pieces = [
        translate(shapely.intersection(geometry, _world(turn)), xoff=-_WORLD_DEG * turn) for turn in turns
    ]
    dimension = shapely.get_dimensions(geometry)
    # Pieces from both sides of a polygon around the Earth meet; a shared edge would make them invalid.
    whole = (
        shapely.union_all(pieces)
        if dimension == 2 and len(pieces) > 1
        else shapely.GeometryCollection(pieces)
    )
    # An edge along the border leaves a line of a polygon there, and a corner a point.
    return collected([part for part in _simple_parts(whole) if shapely.get_dimensions(part) == dimension])


def collected(parts: list[BaseGeometry]) -> BaseGeometry:
    """The parts, all of one dimension, as one geometry."""
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return shapely.GeometryCollection()
    makers: dict[int, Callable[[list[BaseGeometry]], BaseGeometry]] = {
        0: shapely.multipoints,
        1: shapely.multilinestrings,
        2: shapely.multipolygons,
    }
    return makers[int(shapely.get_dimensions(parts[0]))](parts)


def _world(turn: int) -> BaseGeometry:
    west = -180 + _WORLD_DEG * turn
    return shapely.box(west, -MAX_LATITUDE_DEG, west + _WORLD_DEG, MAX_LATITUDE_DEG)


def _wrapped_points(geometry: BaseGeometry) -> BaseGeometry:
    at = shapely.get_coordinates(geometry)
    at = at[np.abs(at[:, 1]) <= MAX_LATITUDE_DEG]
    beyond = np.abs(at[:, 0]) > 180
    at[beyond, 0] = (at[beyond, 0] + 180) % _WORLD_DEG - 180
    return collected(list(shapely.points(at)))


def _each_part(geometry: BaseGeometry, change: Callable[[BaseGeometry], BaseGeometry]) -> BaseGeometry:
    parts = list(_simple_parts(geometry))
    if len(parts) == 1:
        return change(parts[0])
    return type(geometry)([change(part) for part in parts])


def _simple_parts(geometry: BaseGeometry) -> Iterator[BaseGeometry]:
    for part in shapely.get_parts(geometry):
        if part.geom_type == "GeometryCollection" or part.geom_type.startswith("Multi"):
            yield from _simple_parts(part)
        else:
            yield part


def _continued(part: BaseGeometry, *, any_jump: bool) -> BaseGeometry:
    if part.geom_type == "LineString":
        return shapely.linestrings(_line(shapely.get_coordinates(part), any_jump=any_jump))
    if part.geom_type != "Polygon":
        return part
    shell, *holes = (shapely.get_coordinates(ring) for ring in shapely.get_rings(part))
    outside = _ring(shell, any_jump=any_jump)
    middle = (outside[:, 0].min() + outside[:, 0].max()) / 2
    inside = [_beside(_ring(hole, any_jump=any_jump), middle) for hole in holes]
    return shapely.polygons(outside, holes=inside or None)


def _line(at: _Coordinates, *, any_jump: bool) -> _Coordinates:
    longitudes = at[:, 0]
    steps = np.diff(longitudes)
    # A step of a whole turn is the border of a map of the world.
    jumps = (np.abs(steps) > 180) & (np.abs(steps) < _WORLD_DEG - _TOLERANCE_DEG)
    if not any_jump:
        near = np.abs(longitudes) > 180 - NEAR_DEG
        jumps &= near[1:] & near[:-1]
    turns = np.cumsum(np.where(jumps, -np.sign(steps), 0.0))
    continued = at.copy()
    continued[1:, 0] += _WORLD_DEG * turns
    return continued


def _ring(at: _Coordinates, *, any_jump: bool) -> _Coordinates:
    continued = _line(at, any_jump=any_jump)
    first, last = continued[0], continued[-1]
    if abs(last[0] - first[0]) < 180:
        return continued
    pole = math.copysign(90.0, float(at[:, 1].mean()))
    return np.vstack([continued, [last[0], pole], [first[0], pole], first])


def _beside(hole: _Coordinates, middle: Any) -> _Coordinates:
    """The hole, shifted by whole turns to the shell whose middle has that longitude."""
    own = (hole[:, 0].min() + hole[:, 0].max()) / 2
    hole[:, 0] += _WORLD_DEG * np.round((middle - own) / _WORLD_DEG)
    return hole
