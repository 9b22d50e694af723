"""Resampling of rasters to a grid of the plane, with one interpolation."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from aerotask.raster.alignment.common_grid import Grid
from aerotask.raster.alignment.match.reading import InMemoryImage, MaskedImage, Reader, SourceWindow, filled
from aerotask.raster.alignment.match.similarity import IDENTITY, Points, Similarity
from aerotask.raster.expression.evaluate import Floats
from aerotask.raster.windows import Shape

MAX_READ_PX = 4 * 1024 * 1024
"""Maximum pixels read for an image; larger areas are read in less detail. Bounds the memory of every step."""
_MARGIN_PX = 6
"""Margin for the kernel of the interpolation."""
_NODES = (1 - np.cos(np.pi * np.arange(5) / 4)) / 2
"""Chebyshev nodes of the second kind on 0 to 1: positions are computed there, and interpolated in between."""

_STEP_PX = 1 / 32


@dataclass(frozen=True, slots=True)
class PlaneView:
    """View of a raster from the plane: `locate` maps points of the plane to its pixels."""

    reader: Reader
    locate: Callable[[Points], Points]

    def on(self, grid: Grid, transform: Similarity = IDENTITY) -> MaskedImage:
        """Resample the raster to the pixels of the grid, moved by `transform`."""
        columns, rows = self._positions(grid, transform)
        if not (np.isfinite(columns).all() and np.isfinite(rows).all()):
            return empty_image(grid.shape_yx)
        area = self._area(columns, rows, grid)
        if area is None:
            return empty_image(grid.shape_yx)
        return _interpolated(self.reader.read(area), area, columns, rows)

    def in_memory(self, grid: Grid) -> PlaneView:
        """The same view from memory: the area of the grid with a margin, in the grid's detail."""
        columns, rows = self._positions(grid, IDENTITY)
        area = self._area(columns, rows, grid) if np.isfinite(columns + rows).all() else None
        if area is None:
            return PlaneView(InMemoryImage(empty_image((1, 1))), self.locate)
        origin = np.array([area.left, area.top])
        image = self.reader.read(area)
        return PlaneView(InMemoryImage(image), lambda points: (self.locate(points) - origin) / area.factor)

    def _positions(self, grid: Grid, transform: Similarity) -> tuple[Points, Points]:
        """The columns and rows of the raster at the centres of the grid's pixels."""
        height, width = grid.shape_yx
        columns, rows = np.meshgrid(_NODES * width, _NODES * height)
        nodes = np.column_stack([columns.ravel(), rows.ravel()])
        found = self.locate(transform.of(grid.plane_points(nodes)))
        across, down = _basis(width), _basis(height)
        shape = (_NODES.size, _NODES.size)
        with np.errstate(invalid="ignore"):
            # `einsum` instead of `@`: for such narrow matrices BLAS would only start its threads.
            parts = [np.einsum("rn,nm->rm", down, found[:, axis].reshape(shape)) for axis in (0, 1)]
            columns, rows = (np.einsum("rm,cm->rc", part, across) for part in parts)
        return columns, rows

    def _area(self, columns: Points, rows: Points, grid: Grid) -> SourceWindow | None:
        """The window to read, in about the grid's detail; None outside the raster."""
        height, width = self.reader.shape_yx
        left, right = _clipped(columns, width)
        top, bottom = _clipped(rows, height)
        if left >= right or top >= bottom:
            return None
        area = (right - left) * (bottom - top)
        span = (np.ptp(columns) + 1) * (np.ptp(rows) + 1)
        detail = math.sqrt(span / (grid.shape_yx[0] * grid.shape_yx[1]))
        factor = max(int(detail + 0.25), math.ceil(math.sqrt(area / MAX_READ_PX)), 1)
        margin = _MARGIN_PX * factor
        left, top = _aligned(left - margin, factor), _aligned(top - margin, factor)
        cols, rows_ = (
            -(-(end - start) // factor) for start, end in ((left, right + margin), (top, bottom + margin))
        )
        return SourceWindow(left, top, cols, rows_, factor)


def empty_image(shape_yx: Shape) -> MaskedImage:
    """An image in which every pixel is invalid."""
    return MaskedImage(np.zeros(shape_yx, np.float32), np.zeros(shape_yx, np.bool_))


def _clipped(positions: Points, size: int) -> tuple[int, int]:
    start, stop = math.floor(positions.min()), math.ceil(positions.max())
    return max(start, 0), min(stop, size)


def _aligned(position: int, factor: int) -> int:
    return position // factor * factor


def _interpolated(image: MaskedImage, area: SourceWindow, columns: Points, rows: Points) -> MaskedImage:
    """The image interpolated at positions of the raster."""
    across, down = _dither(columns.shape)
    x = ((columns - area.left) / area.factor - 0.5 + across).astype(np.float32)
    y = ((rows - area.top) / area.factor - 0.5 + down).astype(np.float32)
    mean = float(image.values.flat[0]) if not image.valid.any() else float(image.values.mean())
    values = cv2.remap(
        image.values, x, y, cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_CONSTANT, borderValue=mean
    )
    covered = cv2.remap(image.valid.view(np.uint8) * np.uint8(255), x, y, cv2.INTER_LINEAR)
    return filled(np.asarray(values, np.float32), np.asarray(covered) == 255)


def _dither(shape: tuple[int, ...]) -> tuple[Points, Points]:
    """Offsets, even over a step of OpenCV's interpolation, that differ from pixel to pixel.

    OpenCV rounds positions to 1/32 pixel. Without the offsets a pure shift would be rounded the same way everywhere, a
    systematic error. (Two axes of the sequence R2 of M. Roberts, 2018.)
    """
    pixel_row, pixel_col = np.ogrid[: shape[0], : shape[1]]
    phase = pixel_col * 0.754877666 + pixel_row * 0.569840291
    other = pixel_col * 0.569840291 + pixel_row * 0.324718 * 2
    return ((phase % 1) - 0.5) * _STEP_PX, ((other % 1) - 0.5) * _STEP_PX


def _basis(count: int) -> Floats | Points:
    """Lagrange polynomials over the nodes, at the centres of `count` pixels: (pixels, nodes)."""
    centres = (np.arange(count) + 0.5) / count
    basis = np.ones((count, _NODES.size))
    for node, position in enumerate(_NODES):
        for other in _NODES[np.not_equal(_NODES, position)]:
            basis[:, node] *= (centres - other) / (position - other)
    return basis
