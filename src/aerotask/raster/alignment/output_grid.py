"""Plans the raster that is written: the source's own pixels, as many of them as the moved source needs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from aerotask.raster.alignment.common_grid import Grid
from aerotask.raster.alignment.match.similarity import Points, Similarity
from aerotask.raster.alignment.pair import Pair
from aerotask.raster.windows import Shape

SLIVER_PX = 0.05
"""A row or column that the moved source covers by less than this isn't worth having."""


@dataclass(frozen=True, slots=True)
class OutputGrid:
    """The pixels of the output; they lie on the source's own, `left` and `top` pixels from its first."""

    left: int
    top: int
    shape_yx: Shape
    in_map: Grid
    to_source: Points
    """2 × 3: from positions in the output to positions in the source, both in pixels from the corner."""


def plan_output(pair: Pair, transform: Similarity) -> OutputGrid:
    """The smallest grid on the source's pixels that holds all of the source once it is transformed."""
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
    """Everything on the way is affine: three points tell all of it."""
    span = float(max(grid.shape_yx))
    corners = np.array([[0.0, 0.0], [span, 0.0], [0.0, span]])
    origin, right, down = grid.pixels(
        transform.inverse().of(grid.plane_points(corners + np.array([left, top])))
    )
    return np.column_stack([(right - origin) / span, (down - origin) / span, origin])
