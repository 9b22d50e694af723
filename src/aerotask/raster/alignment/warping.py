"""Warper of the source to the output grid, window by window, with one interpolation (GDAL's cubic convolution)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.transform import Affine
from rasterio.warp import reproject
from rasterio.windows import Window as RasterioWindow

from aerotask.raster.alignment.match.similarity import Points
from aerotask.raster.alignment.output_grid import OutputGrid
from aerotask.raster.expression.evaluate import Flags
from aerotask.raster.pixels import native_nodata
from aerotask.raster.profile import RasterProfile
from aerotask.raster.windows import Shape, Window, shape_of

Pixels = NDArray[Any]

MARGIN_PX = 4
"""Margin around a window for the kernel: two pixels, and more for a change of scale."""
_ANY_CRS = "EPSG:3857"
"""Placeholder CRS: positions are pixels on both sides, and GDAL must not reproject."""
_IN_TENTHS = Affine.scale(10)
"""Tenths of a pixel on both sides: rasterio would take an identity for a missing georeference, and warn."""


@dataclass(frozen=True, slots=True)
class WarpedPixels:
    """Pixels of the output (bands, rows, cols), and which of them have a value (rows, cols)."""

    pixels: Pixels
    covered: Flags


@dataclass(frozen=True, slots=True)
class SourcePixels:
    """Pixels of the source (bands, rows, cols), their validity, and the position of the first."""

    pixels: Pixels
    valid: Flags
    left: int
    top: int


@dataclass(frozen=True, slots=True)
class FillValues:
    """Fill values of the output's bands for pixels without a value, and the offset added to all values."""

    values: tuple[float, ...]
    offset: float = 0.0
    nearest: bool = False
    """Nearest-neighbour resampling, for colour tables: between two entries there is no mean."""


class WindowWarper:
    """Warper for one thread: reads the source and returns windows of the output."""

    def __init__(self, source: Any, grid: OutputGrid, fill: FillValues) -> None:
        self._source = source
        self._grid = grid
        self._fill = fill
        self._has_mask = MaskFlags.per_dataset in source.mask_flag_enums[0]
        self._alpha = next(
            (index for index, colour in enumerate(source.colorinterp) if colour == ColorInterp.alpha), None
        )
        # Pixels of the output for one pixel of the source.
        self._detail = min(1 / math.sqrt(abs(np.linalg.det(grid.to_source[:, :2]))), 1.0)
        self._nodata = [native_nodata(value, np.dtype(source.dtypes[0])) for value in source.nodatavals]

    def window(self, window: Window) -> WarpedPixels:
        """Warp the source to a window of the output."""
        to_source = _from_window(self._grid.to_source, window)
        content = self._read(to_source, shape_of(window))
        if content is None or not content.valid.any():
            return self._empty(shape_of(window))
        if content.valid.all() and self._surrounds(to_source, shape_of(window)):
            planes = [self._resampled(plane, to_source, content, window) for plane in content.pixels]
            return WarpedPixels(self._finished(planes), np.ones(shape_of(window), np.bool_))
        return self._with_holes(content, to_source, window)

    def _empty(self, shape: Shape) -> WarpedPixels:
        planes = [np.full(shape, value, self._source.dtypes[0]) for value in self._fill.values]
        return WarpedPixels(np.stack(planes), np.zeros(shape, np.bool_))

    def _read(self, to_source: Points, shape: Shape) -> SourcePixels | None:
        """Read the pixels of the source that the window needs; None if there are none."""
        low, high = _bounds(to_source, shape)
        margin = MARGIN_PX + math.ceil(np.abs(to_source[:, :2]).max())
        left, top = (max(math.floor(value) - margin, 0) for value in low)
        right = min(math.ceil(high[0]) + margin, self._source.width)
        bottom = min(math.ceil(high[1]) + margin, self._source.height)
        if left >= right or top >= bottom:
            return None
        area = RasterioWindow(left, top, right - left, bottom - top)
        pixels = self._source.read(window=area)
        return SourcePixels(pixels, self._valid(pixels, area), left, top)

    def _valid(self, pixels: Pixels, area: RasterioWindow) -> Flags:
        """A pixel is valid if alpha and mask include it and every band has a value there."""
        valid = np.ones(pixels.shape[1:], np.bool_)
        if self._alpha is not None:
            valid &= pixels[self._alpha] != 0
        elif self._has_mask:
            valid &= self._source.read_masks(1, window=area) != 0
        else:
            for plane, nodata in zip(pixels, self._nodata, strict=True):
                if nodata is not None:
                    valid &= plane != nodata
        if pixels.dtype.kind == "f":
            valid &= np.isfinite(pixels).all(axis=0)
        return valid

    def _surrounds(self, to_source: Points, shape: Shape) -> bool:
        """Whether every pixel of the window is within the source."""
        low, high = _bounds(to_source, shape)
        return bool((low >= 0).all() and high[0] <= self._source.width and high[1] <= self._source.height)

    def _resampled(
        self, plane: Pixels, to_source: Points, content: SourcePixels, window: Window, *, linear: bool = False
    ) -> Pixels:
        kernel = Resampling.bilinear if linear else Resampling.cubic
        result = np.zeros(shape_of(window), plane.dtype)
        reproject(
            plane,
            result,
            src_transform=_IN_TENTHS @ Affine.translation(content.left, content.top),
            dst_transform=_IN_TENTHS @ Affine(*to_source.ravel()),
            src_crs=_ANY_CRS,
            dst_crs=_ANY_CRS,
            resampling=Resampling.nearest if self._fill.nearest else kernel,
            tolerance=0,
            num_threads=1,
            # GDAL would guess the scale from the window's outline, and blur a mere rotation.
            XSCALE=self._detail,
            YSCALE=self._detail,
        )
        return result

    def _with_holes(self, content: SourcePixels, to_source: Points, window: Window) -> WarpedPixels:
        """Warp a window in which some of the source's pixels are invalid.

        Cubic where all pixels within the kernel are valid, else the mean of the valid pixels in a bilinear kernel; no
        value where these are less than half of it.
        """
        padded = _padded(content)
        share = self._resampled(padded.valid.astype(np.float32), to_source, padded, window, linear=True)
        inner = _eroded(padded.valid).astype(np.float32)
        whole = self._resampled(inner, to_source, padded, window, linear=True) > np.float32(0.999)
        covered: Flags = share >= np.float32(0.5)
        planes = []
        for plane, fill in zip(padded.pixels, self._fill.values, strict=True):
            exact = plane.astype(np.float64 if plane.dtype.itemsize > 2 else np.float32)
            counted = np.where(padded.valid, exact, 0)
            if self._fill.nearest:
                moved = self._resampled(counted, to_source, padded, window)
            else:
                sums = self._resampled(counted, to_source, padded, window, linear=True)
                moved = np.divide(sums, share, out=np.zeros_like(sums), where=share > 0)
                moved[whole] = self._resampled(counted, to_source, padded, window)[whole]
            planes.append(np.where(covered, moved, np.nan if np.isnan(fill) else fill))
        return WarpedPixels(self._finished(planes, covered), covered)

    def _finished(self, planes: list[Pixels], covered: Flags | None = None) -> Pixels:
        """The planes in the source's pixel type; valid values that equal nodata are moved beside it."""
        dtype = np.dtype(self._source.dtypes[0])
        result = np.empty((len(planes), *planes[0].shape), dtype)
        for number, plane in enumerate(planes):
            values = plane + self._fill.offset if self._fill.offset else plane
            result[number] = _as_type(values, dtype)
            nodata = self._nodata[number]
            if nodata is not None and self._alpha is None:
                taken = result[number] == nodata
                result[number][taken] = _beside(nodata, dtype)
            if covered is not None:
                result[number][~covered] = self._fill.values[number]
        return result


def fill_values_for(profile: RasterProfile, *, offset: float = 0.0, palette: bool = False) -> FillValues:
    """The fill values: nodata, else NaN for floating types, else 0 (with a mask or alpha)."""
    values = []
    for band in profile.bands:
        dtype = np.dtype(band.dtype)
        if band.nodata is not None and (dtype.kind == "f" or native_nodata(band.nodata, dtype) is not None):
            values.append(float(band.nodata))
        else:
            values.append(math.nan if dtype.kind == "f" and profile.alpha_band is None else 0.0)
    return FillValues(tuple(values), offset, nearest=palette)


def _from_window(to_source: Points, window: Window) -> Points:
    """The affine map from positions in the window to positions in the source."""
    origin = to_source[:, :2] @ (window[1].start, window[0].start) + to_source[:, 2]
    return np.column_stack([to_source[:, :2], origin])


def _bounds(to_source: Points, shape: Shape) -> tuple[Points, Points]:
    """The minimum and maximum position in the source that the window reaches."""
    rows, cols = shape
    corners = np.array([[0, 0], [cols, 0], [cols, rows], [0, rows]], np.float64)
    positions = corners @ to_source[:, :2].T + to_source[:, 2]
    return positions.min(axis=0), positions.max(axis=0)


def _padded(content: SourcePixels) -> SourcePixels:
    """The pixels with an invalid frame, so that the source's outer edge is treated like any other edge."""
    frame = ((MARGIN_PX, MARGIN_PX), (MARGIN_PX, MARGIN_PX))
    return SourcePixels(
        np.pad(content.pixels, ((0, 0), *frame)),
        np.pad(content.valid, frame),
        content.left - MARGIN_PX,
        content.top - MARGIN_PX,
    )


def _eroded(valid: Flags) -> Flags:
    """Erosion: the pixels around which everything within two pixels is valid."""
    inner = valid.copy()
    for axis in (0, 1):
        for step in (-2, -1, 1, 2):
            inner &= np.roll(valid, step, axis=axis)
        valid = inner.copy()
    return inner


def _as_type(values: Pixels, dtype: np.dtype[Any]) -> Pixels:
    if values.dtype == dtype:
        return values
    if dtype.kind == "f":
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    return np.asarray(np.clip(np.rint(np.nan_to_num(values)), limits.min, limits.max), dtype)


def _beside(nodata: Any, dtype: np.dtype[Any]) -> Any:
    """The value next to nodata."""
    if dtype.kind == "f":
        return np.nextafter(nodata, dtype.type(0) if nodata else dtype.type(1))
    return nodata + 1 if nodata < np.iinfo(dtype).max else nodata - 1
