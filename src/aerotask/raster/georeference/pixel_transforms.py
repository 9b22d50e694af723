"""Transformations between the pixels of a raster and its CRS: affine, or by GDAL for control points and RPCs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from rasterio.transform import Affine

from aerotask.raster.windows import Shape

Positions = NDArray[np.float64]
"""Coordinates of one axis; not finite where there is no such place."""
Points = tuple[Positions, Positions]
"""Columns and rows, or x and y."""

_SAMPLES = 33
_MARGIN = 0.01
"""Share of the raster's extent by which the area is enlarged in which GDAL's transformer is used."""


class PixelTransform(Protocol):
    """Transformation between pixels and a CRS; (0, 0) is the outer corner of the first pixel."""

    def to_crs(self, cols: Positions, rows: Positions) -> Points:
        """The x and y of columns and rows."""
        ...

    def to_pixels(self, x: Positions, y: Positions) -> Points:
        """The columns and rows of x and y, which lie outside the raster where it doesn't show the place."""
        ...


@dataclass(frozen=True, slots=True)
class AffinePixels:
    """Affine transformation."""

    transform: Affine

    def to_crs(self, cols: Positions, rows: Positions) -> Points:
        """The x and y of columns and rows."""
        return _apply(self.transform, cols, rows)

    def to_pixels(self, x: Positions, y: Positions) -> Points:
        """The columns and rows of x and y."""
        return _apply(~self.transform, x, y)


class CurvedPixels:
    """Transformation by a transformer of GDAL: a polynomial of control points, or rational polynomials (RPC).

    A polynomial means nothing far from the raster and could lead back into it. So it's used within the raster's
    bounding box only, and the affine transformation that is closest to it elsewhere.
    """

    def __init__(self, transformer: Any, shape_yx: Shape) -> None:
        """Approximate rasterio's `transformer`.

        Raises:
            ValueError: it transforms no part of the raster.
        """
        self._transformer, self._shape_yx = transformer, shape_yx
        rows, cols = np.meshgrid(*(np.linspace(0, size, _SAMPLES) for size in shape_yx), indexing="ij")
        x, y = self.to_crs(cols, rows)
        known = np.isfinite(x) & np.isfinite(y)
        if known.sum() < 3:
            raise ValueError("no part of the raster can be transformed")
        self._low = np.array([x[known].min(), y[known].min()])
        self._high = np.array([x[known].max(), y[known].max()])
        margin = _MARGIN * (self._high - self._low)
        self._low, self._high = self._low - margin, self._high + margin
        self._approximate = ~_fitted(cols[known], rows[known], x[known], y[known])

    def to_crs(self, cols: Positions, rows: Positions) -> Points:
        """The x and y of columns and rows."""
        x, y = self._transformer.xy(np.ravel(rows), np.ravel(cols), offset="ul")
        return np.reshape(x, np.shape(cols)), np.reshape(y, np.shape(cols))

    def to_pixels(self, x: Positions, y: Positions) -> Points:
        """The columns and rows of x and y, which lie outside the raster where it doesn't show the place."""
        cols, rows = _apply(self._approximate, x, y)
        with np.errstate(invalid="ignore"):
            near = (x >= self._low[0]) & (x <= self._high[0]) & (y >= self._low[1]) & (y <= self._high[1])
            height, width = self._shape_yx
            wrong = ~near & (cols >= 0) & (cols <= width) & (rows >= 0) & (rows <= height)
        cols[wrong] = rows[wrong] = np.nan
        if near.any():
            rows[near], cols[near] = self._transformer.rowcol(x[near], y[near], op=np.positive)
        return cols, rows


def _apply(transform: Affine, first: Positions, second: Positions) -> Points:
    return (
        transform.a * first + transform.b * second + transform.c,
        transform.d * first + transform.e * second + transform.f,
    )


def _fitted(cols: Positions, rows: Positions, x: Positions, y: Positions) -> Affine:
    """The affine transformation from columns and rows to x and y with the least squared errors.

    Raises:
        ValueError: the places lie on a line.
    """
    centre = np.array([x.mean(), y.mean()])
    unknowns, *_ = np.linalg.lstsq(
        np.column_stack([cols, rows, np.ones_like(cols)]), np.column_stack([x, y]) - centre, rcond=None
    )
    (a, d), (b, e), (c, f) = unknowns
    fitted = Affine(a, b, c + centre[0], d, e, f + centre[1])
    if not abs(fitted.determinant) > 0:
        raise ValueError("the raster has no area")
    return fitted
