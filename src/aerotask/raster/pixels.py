"""Band reader: windows of the needed bands, in float32 chunks with a validity flag for each pixel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import MaskFlags
from rasterio.windows import Window as RasterioWindow

from aerotask.raster.expression.evaluate import Flags, Floats, narrow
from aerotask.raster.pixel_mapping import NearestPixels
from aerotask.raster.profile import RasterProfile, Scaling
from aerotask.raster.windows import UNIT_BYTES, Shape, Window, shape_of, windows

OPAQUE = 255
CHUNK_PX = 128 * 1024
"""Pixels computed at a time: few enough for the processor's cache, many enough that switching threads at the
interpreter lock costs little."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """Raster on disk with its profile."""

    path: Path
    profile: RasterProfile


@dataclass(frozen=True, slots=True)
class PixelBlock:
    """Pixels as stored in the file: `planes` is (bands, rows, cols), `mask` (rows, cols) with 0 for "no value"."""

    planes: NDArray[Any]
    mask: NDArray[Any] | None


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some rows of a block, flat: one float32 array for each band, and the pixels' validity.

    The arrays belong to the reader and are overwritten by the next chunk; `valid` may be written to.
    """

    rows: slice
    planes: Sequence[Floats]
    valid: Flags


class BandReader:
    """Reader of some bands of an open raster, for one thread.

    A pixel is valid if no band has its nodata value or a non-finite value there, and the alpha band (if any) isn't 0.
    If the file has a mask of its own, that decides in the place of the nodata value, as in GDAL.
    """

    def __init__(
        self, source: Any, profile: RasterProfile, bands: Sequence[int], *, scalings: Sequence[Scaling] = ()
    ) -> None:
        """Take the open raster and the bands, with their scales and offsets for chunks of physical values."""
        self._source = source
        self._count = len(bands)
        self._indexes = [*bands, *([profile.alpha_band] if profile.alpha_band else [])]
        self._has_alpha = profile.alpha_band is not None
        self._has_mask = not self._has_alpha and has_own_mask(source)
        self._dtype = np.dtype(profile.bands[bands[0] - 1].dtype)
        self._nodata = [
            None if self._has_mask else native_nodata(profile.bands[band - 1].nodata, self._dtype)
            for band in bands
        ]
        self._scalings = [(np.float32(scale), np.float32(offset)) for scale, offset in scalings]
        self._content = np.empty(0, self._dtype)
        self._planes = np.empty((self._count, CHUNK_PX), np.float32)
        self._valid = np.empty(CHUNK_PX, np.bool_)
        self._flags = np.empty(CHUNK_PX, np.bool_)

    @property
    def bytes_per_px(self) -> int:
        """Memory of a block for each of its pixels."""
        return len(self._indexes) * self._dtype.itemsize + int(self._has_mask)

    def read(self, window: Window) -> PixelBlock:
        """Read the bands in the window; the arrays are overwritten by the next read."""
        rows, cols = shape_of(window)
        size = len(self._indexes) * rows * cols
        if self._content.size < size:
            self._content = np.empty(size, self._dtype)
        content = self._content[:size].reshape(-1, rows, cols)
        area = RasterioWindow.from_slices(*window)
        self._source.read(self._indexes, window=area, out=content)
        if self._has_alpha:
            return PixelBlock(content[:-1], content[-1])
        mask = self._source.read_masks(1, window=area) if self._has_mask else None
        return PixelBlock(content, mask)

    def read_nearest(self, nearest: NearestPixels) -> PixelBlock:
        """Read single pixels, from the smallest window that holds them; the mask is 0 where the source has none.

        A large window is read in parts, of which those without any of the pixels are left out: memory is bounded.
        """
        shape: Shape = nearest.inside.shape
        planes = np.zeros((self._count, *shape), self._dtype)
        mask = np.zeros(shape, self._dtype if self._has_alpha else np.uint8)
        for window in self._parts_with(nearest):
            rows, cols = window
            within = nearest.inside & _between(nearest.rows, rows) & _between(nearest.cols, cols)
            if not within.any():
                continue
            block = self.read(window)
            index = (nearest.rows[within] - rows.start) * (cols.stop - cols.start) + (
                nearest.cols[within] - cols.start
            )
            for plane, native in zip(planes, block.planes, strict=True):
                plane[within] = np.take(native.reshape(-1), index)
            mask[within] = OPAQUE if block.mask is None else np.take(block.mask.reshape(-1), index)
        return PixelBlock(planes, mask)

    def read_blocks(self, nearest: NearestPixels) -> PixelBlock:
        """Read single pixels as `read_nearest`, by the file's blocks: only those that hold any of the pixels."""
        shape: Shape = nearest.inside.shape
        planes = np.zeros((self._count, *shape), self._dtype)
        mask = np.zeros(shape, self._dtype if self._has_alpha else np.uint8)
        block_y, block_x = self._source.block_shapes[0]
        targets = np.flatnonzero(nearest.inside)
        rows, cols = nearest.rows.reshape(-1)[targets], nearest.cols.reshape(-1)[targets]
        numbers = rows // block_y * (self._source.width // block_x + 1) + cols // block_x
        order = np.argsort(numbers, kind="stable")
        for part in np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1):
            if not part.size:
                continue
            window = _hull(rows[part]), _hull(cols[part])
            block = self.read(window)
            y, x = rows[part] - window[0].start, cols[part] - window[1].start
            for plane, native in zip(planes, block.planes, strict=True):
                plane.reshape(-1)[targets[part]] = native[y, x]
            mask.reshape(-1)[targets[part]] = OPAQUE if block.mask is None else block.mask[y, x]
        return PixelBlock(planes, mask)

    def _parts_with(self, nearest: NearestPixels) -> Iterator[Window]:
        """Windows that hold all of the pixels: the smallest one, or parts of it along the file's blocks."""
        if not nearest.inside.any():
            return
        hull = _hull(nearest.rows[nearest.inside]), _hull(nearest.cols[nearest.inside])
        height, width = shape_of(hull)
        if height * width * self.bytes_per_px <= UNIT_BYTES:
            yield hull
            return
        block_y, block_x = self._source.block_shapes[0]
        step_x = min(max(UNIT_BYTES // (block_y * self.bytes_per_px) // block_x, 1) * block_x, width)
        step_y = max(UNIT_BYTES // (step_x * self.bytes_per_px) // block_y, 1) * block_y
        top, left = hull[0].start // block_y * block_y, hull[1].start // block_x * block_x
        for rows, cols in windows((hull[0].stop - top, hull[1].stop - left), (step_y, step_x)):
            yield (
                slice(max(top + rows.start, hull[0].start), top + rows.stop),
                slice(max(left + cols.start, hull[1].start), left + cols.stop),
            )

    def chunks(self, block: PixelBlock, part: Window) -> Iterator[Chunk]:
        """Split a part of a block, at most `CHUNK_PX` columns wide, into chunks from top to bottom.

        The rows of the chunks are counted from the top of the part.
        """
        rows, cols = shape_of(part)
        step = max(CHUNK_PX // cols, 1)
        for top in range(0, rows, step):
            in_part = slice(top, min(top + step, rows))
            in_block = slice(part[0].start + in_part.start, part[0].start + in_part.stop)
            yield Chunk(in_part, *self._load(block, (in_block, part[1])))

    def _load(self, block: PixelBlock, area: Window) -> tuple[list[Floats], Flags]:
        shape = shape_of(area)
        count = shape[0] * shape[1]
        valid, flags = self._valid[:count], self._flags[:count]
        valid_yx, flags_yx = valid.reshape(shape), flags.reshape(shape)
        if block.mask is None:
            valid.fill(True)  # noqa: FBT003  numpy's own signature
        else:
            np.not_equal(block.mask[area], 0, out=valid_yx)
        planes: list[Floats] = []
        for number, nodata in enumerate(self._nodata):
            native = block.planes[number][area]
            plane = self._planes[number, :count]
            np.copyto(plane.reshape(shape), native, casting="unsafe")
            if nodata is not None:
                narrow(valid_yx, np.not_equal(native, nodata, out=flags_yx))
            if self._dtype.kind == "f":
                narrow(valid, np.isfinite(plane, out=flags))
            if self._scalings:
                scale, offset = self._scalings[number]
                np.multiply(plane, scale, out=plane)
                np.add(plane, offset, out=plane)
            planes.append(plane)
        return planes, valid


def _between(indexes: NDArray[np.intp], part: slice) -> Flags:
    between: Flags = (indexes >= part.start) & (indexes < part.stop)
    return between


def _hull(indexes: NDArray[np.intp]) -> slice:
    return slice(int(indexes.min()), int(indexes.max()) + 1)


def has_own_mask(source: Any) -> bool:
    """Whether the open raster has a mask beside its bands; nodata values then count for nothing (GDAL, RFC 15)."""
    flags = source.mask_flag_enums[0]
    return MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags


def native_nodata(nodata: float | None, dtype: np.dtype[Any]) -> Any:
    """The nodata value in the pixels' type; None if no pixel can have it, or for NaN, which is tested for anyway."""
    if nodata is None or nodata != nodata:  # noqa: PLR0124  NaN
        return None
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return dtype.type(nodata)
    limits = np.iinfo(dtype)
    if nodata != int(nodata) or not limits.min <= nodata <= limits.max:
        return None
    return dtype.type(int(nodata))
