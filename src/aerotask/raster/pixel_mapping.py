"""Mapping from the pixels of a web map's tile to the nearest pixels of a raster in any CRS, placed by an affine transform, control points or RPCs.

Coordinates are transformed exactly at a grid of control points and linearly in between, as GDAL's approximate
transformer (`GDALApproxTransform`) does along lines. The error is measured, and pixels that it could move across the
border of a source pixel are transformed exactly: the result is the same as if each pixel had been.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS, Transformer
from pyproj.enums import TransformDirection
from pyproj.exceptions import CRSError, ProjError
from rasterio.transform import Affine

from aerotask.domain.errors import InvalidInput
from aerotask.raster.georeference.pixel_transforms import PixelTransform, Points, Positions
from aerotask.raster.georeference.placement import Placement, earth_crs
from aerotask.raster.windows import Shape, Window, shape_of

WEB_MERCATOR = CRS.from_epsg(3857)
HALF_WORLD_M = math.pi * 6378137.0
"""Half the width of the web map, in metres of EPSG:3857."""
MAX_ERROR_PX = 0.02
"""Largest error of linear interpolation, in source pixels; where it is larger, every pixel is transformed."""
CELLS = 16, 32, 64
"""Cells of the control grid along one side, which is refined until the error is small enough."""
MAX_FAILING_CELLS = 0.1
"""As long as the error is too large in a larger share of the cells, the control grid is refined."""
EXACT_PX = 1024
"""In areas of so few pixels, every pixel is transformed: control points would cost as much."""
TIE_PX = 1e-6
"""Positions on the border of two source pixels, but for rounding, belong to the right or lower one as in GDAL's warp."""

Flags = NDArray[np.bool_]

_SAMPLES = 5
_FAR_PX = -1e12


@dataclass(frozen=True, slots=True)
class NearestPixels:
    """Source pixel of each pixel in a part of the target; other parts of the target don't show the raster."""

    part: Window
    rows: NDArray[np.intp]
    cols: NDArray[np.intp]
    inside: NDArray[np.bool_]
    """Whether the source has this pixel; its row and column are 0 if not."""


@dataclass(frozen=True, slots=True)
class MapResolution:
    """Pixel sizes of a raster on the web map, in metres of EPSG:3857."""

    typical_m: float
    finest_m: float


@dataclass(frozen=True, slots=True)
class PixelMapper:
    """Transformation of positions on the web map to pixels of one raster."""

    shape_yx: Shape
    _pixels: PixelTransform
    _transformer: Transformer | None
    """From EPSG:3857 to the raster's CRS; None if they are the same."""
    _period: float | None
    """Distance in the CRS's units after which its x axis is at the same place again; None if there is none."""

    @classmethod
    def create(cls, placement: Placement) -> PixelMapper:
        """The mapper of a raster.

        Raises:
            InvalidInput: the CRS has no known relation to web maps (`not-georeferenced`).
        """
        shape_yx, pixels = placement.shape_yx, placement.pixels
        try:
            source = earth_crs(placement.crs)
            if source == WEB_MERCATOR:
                return cls(shape_yx, pixels, None, 2 * HALF_WORLD_M)
            transformer = Transformer.from_crs(WEB_MERCATOR, source, always_xy=True)
        except (ProjError, CRSError, ValueError) as error:
            raise _not_on_map() from error
        period = 2 * math.pi / source.axis_info[0].unit_conversion_factor if source.is_geographic else None
        return cls(shape_yx, pixels, transformer, period)

    def to_pixels(self, x_m: Positions, y_m: Positions) -> Points:
        """Exact columns and rows in the raster of positions on the web map."""
        x, y = (x_m, y_m) if self._transformer is None else self._transformer.transform(x_m, y_m)
        with np.errstate(invalid="ignore"):
            if self._period is not None:
                rows, cols = (np.array([size / 2]) for size in self.shape_yx)
                middle, _ = self._pixels.to_crs(cols, rows)
                x = x + self._period * np.round((middle[0] - x) / self._period)
            return self._pixels.to_pixels(x, y)

    def to_map(self, cols: Positions, rows: Positions) -> Points:
        """Positions on the web map of columns and rows in the raster."""
        x, y = self._pixels.to_crs(cols, rows)
        if self._transformer is None:
            return x, y
        x_m, y_m = self._transformer.transform(x, y, direction=TransformDirection.INVERSE)
        return x_m, y_m

    def map_resolution(self) -> MapResolution:
        """The raster's resolution on the web map, from places spread over the raster.

        Raises:
            InvalidInput: the raster lies outside of the web map (`not-georeferenced`).
        """
        shares = (np.arange(_SAMPLES) + 0.5) / _SAMPLES
        row, col = np.meshgrid(shares * self.shape_yx[0], shares * self.shape_yx[1], indexing="ij")
        step = max(min(self.shape_yx) / 100, 1)
        x, y = self.to_map(np.stack([col, col + step, col]), np.stack([row, row, row + step]))
        with np.errstate(all="ignore"):
            areas = np.abs((x[1] - x[0]) * (y[2] - y[0]) - (x[2] - x[0]) * (y[1] - y[0])) / step**2
            known = np.isfinite(areas) & (areas > 0)
            on_map = known & (np.abs(y).max(axis=0) <= HALF_WORLD_M)
        if not known.any():
            raise _not_on_map()
        if not on_map.any():  # nearer to a pole than web maps reach: there are no tiles, but bounds and zooms
            on_map = known
        sides = np.sqrt(areas[on_map])
        return MapResolution(float(np.median(sides)), float(sides.min()))


@dataclass(frozen=True, slots=True)
class TileMapping:
    """Mapping of one tile's pixels, as far as they can show the raster, to pixels of the raster."""

    mapper: PixelMapper
    target: Affine
    """The tile's transform, north up, in metres of EPSG:3857."""
    part: Window
    """The part of the tile that can show the raster."""
    ratio: float
    """Pixels of the raster per pixel of the tile, along one side."""

    @classmethod
    def plan(cls, mapper: PixelMapper, target: Affine, shape_yx: Shape) -> TileMapping | None:
        """The mapping for a tile; None if the raster lies elsewhere.

        The part is narrowed down until the raster fills much of it, so that the few pixels of a map of the whole
        world that show the raster cost little.
        """
        part: Window = slice(0, shape_yx[0]), slice(0, shape_yx[1])
        while True:
            points = _control_points(mapper, target, part, CELLS[0])
            near = _cells_near(points, mapper.shape_yx)
            if not near.any():
                return None
            smaller = _part_of_cells(part, near)
            if 2 * _area(smaller) > _area(part) or _area(part) <= EXACT_PX:
                break
            part = smaller
        ratio = _ratio(points, part, near)
        if ratio is None:
            ratio = target.a / mapper.map_resolution().typical_m
        return cls(mapper, target, part, ratio)

    def nearest(self, level_yx: Shape) -> NearestPixels:
        """The nearest pixels of the raster's overview of `level_yx` pixels (or of the raster, by its own size)."""
        scale_yx = level_yx[0] / self.mapper.shape_yx[0], level_yx[1] / self.mapper.shape_yx[1]
        cols, rows, uncertain = self._interpolate(scale_yx)
        if uncertain.any():
            row, col = np.nonzero(uncertain)
            centres = row + (self.part[0].start + 0.5), col + (self.part[1].start + 0.5)
            exact_cols, exact_rows = _source_positions(self.mapper, self.target, *centres)
            cols[uncertain], rows[uncertain] = exact_cols * scale_yx[1], exact_rows * scale_yx[0]
        with np.errstate(invalid="ignore"):
            rows, cols = np.floor(rows + TIE_PX), np.floor(cols + TIE_PX)
            inside = (rows >= 0) & (rows < level_yx[0]) & (cols >= 0) & (cols < level_yx[1])
        if not inside.all():
            rows[~inside] = cols[~inside] = 0
        return NearestPixels(self.part, rows.astype(np.intp), cols.astype(np.intp), inside)

    def _interpolate(self, scale_yx: tuple[float, float]) -> tuple[Positions, Positions, Flags]:
        """Columns and rows in the overview, and whether they are too uncertain to tell the nearest pixel."""
        shape = shape_of(self.part)
        if _area(self.part) <= EXACT_PX:
            return np.empty(shape), np.empty(shape), np.ones(shape, np.bool_)
        for cells in CELLS:
            cols, rows = _control_points(self.mapper, self.target, self.part, cells)
            cols, rows = cols * scale_yx[1], rows * scale_yx[0]
            errors = np.maximum(_cell_errors(cols), _cell_errors(rows))
            failing = ~(errors <= MAX_ERROR_PX) & ~_cells_without_place(cols, rows)
            if failing.mean() <= MAX_FAILING_CELLS or (4 * cells) ** 2 > _area(self.part):
                break
        weights_y, weights_x = (_weights(size, cells) for size in shape)
        cols, rows = (
            weights_y @ np.where(np.isfinite(each), each, _FAR_PX) @ weights_x.T for each in (cols, rows)
        )
        error = float(errors[errors <= MAX_ERROR_PX].max(initial=TIE_PX))
        uncertain = (_distance_to_border(cols) <= error) | (_distance_to_border(rows) <= error)
        if failing.any():
            cell_y, cell_x = (_cell_numbers(size, cells // 2) for size in shape)
            uncertain |= failing[np.ix_(cell_y, cell_x)]
        return cols, rows, uncertain


def _control_points(mapper: PixelMapper, target: Affine, part: Window, cells: int) -> Points:
    """Exact source columns and rows of (cells + 1)² points, from the centre of the part's first pixel to its last."""
    y, x = (np.linspace(each.start + 0.5, each.stop - 0.5, cells + 1) for each in part)
    rows, cols = np.meshgrid(y, x, indexing="ij")
    return _source_positions(mapper, target, rows, cols)


def _source_positions(mapper: PixelMapper, target: Affine, rows: Positions, cols: Positions) -> Points:
    """Exact source columns and rows of positions in the tile."""
    return mapper.to_pixels(target.a * cols + target.c, target.e * rows + target.f)


def _cells_near(points: Points, shape_yx: Shape) -> Flags:
    """Whether a cell may show the raster: the bounding box of its corners, three times as large, touches it.

    It is enlarged since the transformation bends lines. A cell may also show it if some corners have no place.
    """
    touches: list[Flags] = []
    known = np.isfinite(_corners(points[0])) & np.isfinite(_corners(points[1]))
    for positions, size in zip(points, reversed(shape_yx), strict=True):
        corners = _corners(positions)
        with np.errstate(invalid="ignore"):
            low, high = corners.min(axis=0), corners.max(axis=0)
            touches.append((2 * low - high <= size) & (2 * high - low >= 0))
    near: Flags = np.where(known.all(axis=0), touches[0] & touches[1], known.any(axis=0))
    return near


def _part_of_cells(part: Window, near: Flags) -> Window:
    """The smallest window with the pixels of these cells."""
    sides = []
    for axis, side in enumerate(part):
        cells = np.flatnonzero(near.any(axis=1 - axis))
        cell_px = (side.stop - side.start - 1) / near.shape[axis]
        start = side.start + math.floor(cells[0] * cell_px + 0.5)
        sides.append(
            slice(start, min(side.start + math.floor((cells[-1] + 1) * cell_px + 0.5) + 1, side.stop))
        )
    return sides[0], sides[1]


def _ratio(points: Points, part: Window, near: Flags) -> float | None:
    """The square root of the source pixels for a pixel of the tile, or None if no cell tells it."""
    cols, rows = (_corners(each)[:, near] for each in points)
    with np.errstate(invalid="ignore"):
        areas = (
            np.abs((cols[3] - cols[0]) * (rows[2] - rows[1]) - (cols[2] - cols[1]) * (rows[3] - rows[0])) / 2
        )
    areas = areas[np.isfinite(areas)]
    height, width = shape_of(part)
    if not areas.any() or min(height, width) < 2:
        return None
    cell_px = (height - 1) * (width - 1) / near.size
    return math.sqrt(float(np.median(areas)) / cell_px)


def _corners(positions: Positions) -> Positions:
    """The four corners of each cell: upper left, upper right, lower left, lower right."""
    return np.stack([positions[:-1, :-1], positions[:-1, 1:], positions[1:, :-1], positions[1:, 1:]])


def _cell_errors(points: Positions) -> Positions:
    """The largest error of interpolation between every other point, at the points that this leaves out."""
    with np.errstate(invalid="ignore"):
        across = np.abs((points[::2, :-2:2] + points[::2, 2::2]) / 2 - points[::2, 1::2])
        down = np.abs((points[:-2:2, ::2] + points[2::2, ::2]) / 2 - points[1::2, ::2])
        centre = np.abs(_corners(points[::2, ::2]).mean(axis=0) - points[1::2, 1::2])
    errors: Positions = np.max([across[:-1], across[1:], down[:, :-1], down[:, 1:], centre], axis=0)
    return errors


def _cells_without_place(cols: Positions, rows: Positions) -> Flags:
    """Whether none of a cell's nine points has a place in the raster's CRS: then nothing in it is shown."""
    known = np.isfinite(cols) & np.isfinite(rows)
    rows_known = known[:-2:2] | known[1::2] | known[2::2]
    without: Flags = ~(rows_known[:, :-2:2] | rows_known[:, 1::2] | rows_known[:, 2::2])
    return without


def _weights(size: int, cells: int) -> Positions:
    """Weights of linear interpolation (pixels, control points) along one side."""
    places = np.linspace(0, cells, size)
    cell = np.minimum(places.astype(np.intp), cells - 1)
    weights = np.zeros((size, cells + 1))
    weights[np.arange(size), cell] = 1 - (places - cell)
    weights[np.arange(size), cell + 1] = places - cell
    return weights


def _cell_numbers(size: int, cells: int) -> NDArray[np.intp]:
    return np.minimum(np.linspace(0, cells, size).astype(np.intp), cells - 1)


def _distance_to_border(positions: Positions) -> Positions:
    distances: Positions = np.abs(positions - np.rint(positions))
    return distances


def _not_on_map() -> InvalidInput:
    return InvalidInput(
        "The raster's coordinate system or transform puts it nowhere on web maps, so it has no map tiles; assign the "
        "right ones (gdal_translate -a_srs -a_ullr).",
        code="not-georeferenced",
    )


def _area(part: Window) -> int:
    rows, cols = shape_of(part)
    return rows * cols
