"""Brightness reader: one value for each pixel, from the bands that both rasters have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.windows import Window as RasterioWindow

from aerotask.raster.expression.evaluate import Flags, Floats
from aerotask.raster.pixels import native_nodata
from aerotask.raster.windows import Shape, Window, shape_of, windows

PART_PX = 2 * 1024 * 1024
"""Pixels of each band that are held in full detail while they are averaged."""
LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue of a colour table (ITU-R BT.601)."""


@dataclass(frozen=True, slots=True)
class MaskedImage:
    """Image of one value for each pixel (rows, cols), with validity; invalid pixels have the mean of the valid ones."""

    values: Floats
    valid: Flags


@dataclass(frozen=True, slots=True)
class SourceWindow:
    """Window of a raster: from `left` and `top`, `cols` and `rows` squares of `factor` × `factor` pixels."""

    left: int
    top: int
    cols: int
    rows: int
    factor: int = 1


class BrightnessReader:
    """Reader of an open raster, for one thread: the mean of some bands, or the brightness of a palette's colours.

    A pixel is valid if the masks of all bands (the file's own, else nodata and alpha) include it and its values are finite.
    """

    def __init__(self, opened: Any, bands: Sequence[int]) -> None:
        self._opened = opened
        self._bands = list(bands)
        self._palette = palette_brightness(opened, bands)
        alphas = (
            number for number, colour in enumerate(opened.colorinterp, 1) if colour == ColorInterp.alpha
        )
        self._alpha = next(alphas, None)
        self._has_mask = MaskFlags.per_dataset in opened.mask_flag_enums[0]
        self._nodata = [
            native_nodata(opened.nodatavals[band - 1], np.dtype(opened.dtypes[band - 1])) for band in bands
        ]
        self._scale, self._offset = (
            np.float32(each[bands[0] - 1]) for each in (opened.scales, opened.offsets)
        )
        self.shape_yx: Shape = (opened.height, opened.width)

    def read(self, area: SourceWindow) -> MaskedImage:
        """The mean of each square of `factor` × `factor` pixels; pixels outside the raster are invalid."""
        return _framed(area, self.shape_yx, self._read)

    def _read(self, area: SourceWindow) -> tuple[Floats, Flags]:
        """Read part by part, so that at most `PART_PX` pixels are held in full detail."""
        values = np.empty((area.rows, area.cols), np.float32)
        valid = np.empty((area.rows, area.cols), np.bool_)
        squares = max(PART_PX // area.factor**2, 1)
        step = max(squares // area.cols, 1), min(squares, area.cols)
        for part in windows((area.rows, area.cols), step):
            values[part], valid[part] = self._read_part(area, part)
        return values, valid

    def _read_part(self, area: SourceWindow, part: Window) -> tuple[Floats, Flags]:
        factor = area.factor
        rows, cols = shape_of(part)
        window = RasterioWindow(
            area.left + part[1].start * factor,
            area.top + part[0].start * factor,
            cols * factor,
            rows * factor,
        )
        pixels = self._opened.read(self._bands, window=window)
        valid = self._valid(pixels, window)
        planes = (
            pixels if self._palette is None else self._palette[np.minimum(pixels, self._palette.size - 1)]
        )
        with np.errstate(invalid="ignore", over="ignore"):
            values: Floats = planes.mean(axis=0, dtype=np.float32) * self._scale + self._offset
        valid &= np.isfinite(values)
        return (values, valid) if factor == 1 else _averaged(values, valid, factor)

    def _valid(self, pixels: NDArray[Any], window: RasterioWindow) -> Flags:
        valid = np.ones(pixels.shape[1:], np.bool_)
        if self._alpha:
            valid &= self._opened.read(self._alpha, window=window) != 0
        elif self._has_mask:
            valid &= self._opened.read_masks(1, window=window) != 0
            return valid
        for plane, nodata in zip(pixels, self._nodata, strict=True):
            if nodata is not None:
                valid &= plane != nodata
        return valid


class InMemoryImage:
    """Image in memory with the interface of a reader; thread-safe."""

    def __init__(self, image: MaskedImage) -> None:
        self._image = image
        self.shape_yx: Shape = (image.values.shape[0], image.values.shape[1])

    def read(self, area: SourceWindow) -> MaskedImage:
        """The mean of each square of `factor` × `factor` pixels; pixels outside the image are invalid."""
        return _framed(area, self.shape_yx, self._read)

    def _read(self, area: SourceWindow) -> tuple[Floats, Flags]:
        rows = slice(area.top, area.top + area.rows * area.factor)
        cols = slice(area.left, area.left + area.cols * area.factor)
        values, valid = self._image.values[rows, cols], self._image.valid[rows, cols]
        return (values, valid) if area.factor == 1 else _averaged(values, valid, area.factor)


class Reader(Protocol):
    """Source of images: a raster, or an image in memory."""

    @property
    def shape_yx(self) -> Shape:
        """Rows and columns."""

    def read(self, area: SourceWindow) -> MaskedImage:
        """The mean of each square of `factor` × `factor` pixels; pixels outside are invalid."""


def _framed(
    area: SourceWindow, shape_yx: Shape, read: Callable[[SourceWindow], tuple[Floats, Flags]]
) -> MaskedImage:
    """The image of an area; `read` is called for the part within the shape, in whole squares."""
    values = np.zeros((area.rows, area.cols), np.float32)
    valid = np.zeros((area.rows, area.cols), np.bool_)
    rows = _overlap(area.top, area.rows, area.factor, shape_yx[0])
    cols = _overlap(area.left, area.cols, area.factor, shape_yx[1])
    if rows.stop > rows.start and cols.stop > cols.start:
        left, top = area.left + cols.start * area.factor, area.top + rows.start * area.factor
        part = SourceWindow(left, top, cols.stop - cols.start, rows.stop - rows.start, area.factor)
        values[rows, cols], valid[rows, cols] = read(part)
    return filled(values, valid)


def _averaged(values: Floats, valid: Flags, factor: int) -> tuple[Floats, Flags]:
    """The mean of the valid pixels in each square; a square is valid if half of it is."""
    size = (values.shape[1] // factor, values.shape[0] // factor)
    counted = np.where(valid, values, np.float32(0))
    sums = np.asarray(cv2.resize(counted, size, interpolation=cv2.INTER_AREA))
    shares = np.asarray(cv2.resize(valid.astype(np.float32), size, interpolation=cv2.INTER_AREA))
    means = np.asarray(sums / np.maximum(shares, np.float32(1e-6)), np.float32)
    return means, shares >= np.float32(0.5)


def filled(values: Floats, valid: Flags) -> MaskedImage:
    """The image with the mean of the valid pixels in the invalid ones, so that holes have weak edges."""
    mean = np.float32(values[valid].mean(dtype=np.float64)) if valid.any() else np.float32(0)
    return MaskedImage(np.where(valid, values, mean), valid)


def palette_brightness(opened: Any, bands: Sequence[int]) -> NDArray[np.float32] | None:
    """The brightness of each entry of the colour table; None for a raster without one."""
    try:
        table = opened.colormap(bands[0])
    except ValueError:
        return None
    brightness = np.zeros(max(table) + 1, np.float32)
    for entry, colour in table.items():
        brightness[entry] = sum(share * channel for share, channel in zip(LUMA, colour[:3], strict=True))
    return brightness


def _overlap(start: int, count: int, factor: int, size: int) -> slice:
    """The squares, of `count` from `start`, that are completely within 0 to `size`."""
    first = max(-(start // factor), 0) if start < 0 else 0
    last = min((size - start) // factor, count)
    return slice(first, last)
