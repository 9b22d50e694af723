"""Polygon mask: which pixels of any window have their centre within polygons, computed for that window alone.

The rule is that of GDAL's rasterizer (`gdal_rasterize` without `-at`): along the line through the centres of a row, the
pixels between the crossings with the 1st and 2nd, 3rd and 4th … edge are inside. Crossings are computed in the pixels of
the whole raster, so that a pixel has the same answer in every window.
"""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from aerotask.raster.windows import Window

MAX_CROSSINGS = 1_000_000
"""Crossings that are computed at a time, with about 100 bytes each."""


class PolygonMask:
    """Mask of valid polygons that don't overlap, in pixels: x is the column, y the row. Threads may share it."""

    def __init__(self, polygons: BaseGeometry) -> None:
        rings = shapely.get_rings(shapely.get_parts(polygons))
        points, ring_of = shapely.get_coordinates(rings, return_index=True)
        edges = np.hstack([points[:-1], points[1:]])[ring_of[:-1] == ring_of[1:]]
        edges = edges[edges[:, 1] != edges[:, 3]]  # a horizontal edge has no crossing
        upwards = edges[:, 1] > edges[:, 3]
        edges[upwards] = edges[upwards][:, [2, 3, 0, 1]]
        self._edges = edges

    def inside(self, window: Window, *, stride: int = 1) -> NDArray[np.bool_]:
        """Flags of every `stride`-th pixel of the window in both directions; (rows, cols)."""
        rows, cols = window
        shape = (-(-(rows.stop - rows.start) // stride), -(-(cols.stop - cols.start) // stride))
        toggles = np.zeros((shape[0], shape[1] + 1), np.uint8)
        edges = self._edges
        edges = edges[(edges[:, 3] > rows.start + 0.5) & (edges[:, 1] < rows.stop)]
        if not len(edges):
            return np.zeros(shape, np.bool_)
        step = max(MAX_CROSSINGS // len(edges), 1)
        for top in range(0, shape[0], step):
            part = toggles[top : top + step]
            row, x = _crossings(edges, first_y=rows.start + top * stride + 0.5, rows=len(part), stride=stride)
            col = np.ceil((np.floor(x + 0.5) - cols.start) / stride)
            flat = row * part.shape[1] + np.clip(col, 0, shape[1]).astype(np.intp)
            part |= (np.bincount(flat, minlength=part.size) & 1).astype(np.uint8).reshape(part.shape)
        return np.bitwise_xor.accumulate(toggles, axis=1)[:, :-1].view(np.bool_)


def _crossings(
    edges: NDArray[np.float64], *, first_y: float, rows: int, stride: int
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Row and x of each crossing of an edge with one of the lines; an edge has its upper end, but not its lower."""
    limits = np.clip(np.ceil((edges[:, [1, 3]] - first_y) / stride), 0, rows).astype(np.intp)
    counts = limits[:, 1] - limits[:, 0]
    edge = np.repeat(np.arange(len(edges)), counts)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts) + limits[edge, 0]
    x1, y1, x2, y2 = edges[edge].T
    return row, x1 + (first_y + stride * row - y1) * (x2 - x1) / (y2 - y1)
