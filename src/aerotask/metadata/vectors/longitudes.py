"""Longitudes of features on both sides of ±180°, the shorter way around the Earth."""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from aerotask.metadata.vectors.degrees import Boxes

_HALF_TURN_DEG = 180.0
_TURN_DEG = 360.0
_NESTING = 3
"""Collections of multi-part geometries are taken apart so many times."""


def longitudes_across(geometries: NDArray[Any]) -> tuple[float, float] | None:
    """West and east of geometries in degrees, if they fit into less than half a turn across ±180°; else None.

    East exceeds 180. Parts are taken by themselves, since writers cut geometries at ±180° (RFC 7946, 3.1.9); those of
    writers that don't jump from one side to the other.
    """
    parts = geometries
    for _ in range(_NESTING):
        parts = shapely.get_parts(parts)
    boxes = shapely.bounds(parts)
    known = np.isfinite(boxes).all(axis=1)
    parts, boxes = parts[known], boxes[known]
    for at in np.flatnonzero(boxes[:, 2] - boxes[:, 0] > _HALF_TURN_DEG):
        longitudes = shapely.get_coordinates(parts[at])[:, 0] % _TURN_DEG
        if np.ptp(longitudes) > _HALF_TURN_DEG:
            return None
        boxes[at, [0, 2]] = longitudes.min(), longitudes.max()
    return _around_largest_gap(boxes) if len(boxes) else None


def _around_largest_gap(boxes: Boxes) -> tuple[float, float] | None:
    west = boxes[:, 0] % _TURN_DEG
    east = west + boxes[:, 2] - boxes[:, 0]
    # Two turns: in the second, each gap is seen after all intervals that could reach into it.
    starts, ends = (np.concatenate([each, each + _TURN_DEG]) for each in (west, east))
    order = np.argsort(starts, kind="stable")
    starts, reached = starts[order], np.maximum.accumulate(ends[order])
    gaps = (starts[1:] - reached[:-1])[len(west) - 1 :]
    widest = int(np.argmax(gaps))
    first = float(starts[len(west) + widest]) % _TURN_DEG
    last = first + _TURN_DEG - float(gaps[widest])
    crosses = first <= _HALF_TURN_DEG < last
    return (first, last) if crosses and last - first < _HALF_TURN_DEG else None
