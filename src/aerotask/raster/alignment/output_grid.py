"""Output grid of an alignment: the source's pixel grid, extended to hold the moved source."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from aerotask.raster.alignment.common_grid import Grid
from aerotask.raster.alignment.match.similarity import Points, Similarity
from aerotask.raster.alignment.pair import Pair
from aerotask.raster.windows import Shape

SLIVER_PX = 0.05
"""Rows and columns that the moved source covers by less than this are left out."""


@dataclass(frozen=True, slots=True)
class OutputGrid:
    """Grid of the output: the source's grid, offset by `left` and `top` pixels."""

    left: int
    top: int
    shape_yx: Shape
    in_map: Grid
    to_source: Points
    """2 × 3: maps positions in the output to positions in the source, both in pixels from the corner."""


def plan_output(pair: Pair, transform: Similarity) -> OutputGrid:
    """The smallest part of the source's pixel grid, extended in all directions, that holds the transformed source."""
    grid = pair.source_grid
    moved = grid.pixels(transform.of(grid.plane_points(grid.corners())))
    left, top = (math.floor(value + SLIVER_PX) for value in moved.min(axis=0))
    right, bottom = (math.ceil(value - SLIVER_PX) for value in moved.max(axis=0))
    shape = (max(bottom - top, 1), max(right - left, 1))
    return OutputGrid(
        left=left,
        top=top,
        shape_yx=shape,
        in_map=pair.source.in_map.part(left=left, top=top, step=1, shape_yx=shape),
        to_source=_to_source(grid, transform, left, top),
    )


def _to_source(grid: Grid, transform: Similarity, left: int, top: int) -> Points:
    """The affine map from the output to the source, determined by three points."""
    span = float(max(grid.shape_yx))
    corners = np.array([[0.0, 0.0], [span, 0.0], [0.0, span]])
    origin, right, down = grid.pixels(
        transform.inverse().of(grid.plane_points(corners + np.array([left, top])))
    )
    return np.column_stack([(right - origin) / span, (down - origin) / span, origin])
