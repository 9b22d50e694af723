"""Reads windows of the bands that are needed, and hands them on in float32 chunks with a flag for every pixel."""

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
from aerotask.raster.profile import RasterProfile
from aerotask.raster.windows import Window, shape_of

CHUNK_PX = 128 * 1024
"""How many pixels are computed at a time: few enough for the processor's cache, and enough for each step to outlast
the turns that threads take at the interpreter."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A raster on disk, and what its header says."""

    path: Path
    profile: RasterProfile


@dataclass(frozen=True, slots=True)
class PixelBlock:
    """Pixels as they are in the file: `planes` is (bands, rows, cols), `mask` (rows, cols) with 0 for "nothing here"."""

    planes: NDArray[Any]
    mask: NDArray[Any] | None


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some rows of a block, flat: one float32 array for each band, and whether each pixel counts.

    The arrays belong to the reader and are overwritten by the next chunk; `valid` may be written to.
    """

    rows: slice
    planes: Sequence[Floats]
    valid: Flags


class BandReader:
    """One thread's reader of some bands of an open raster.

    A pixel counts if none of the bands has its nodata value or a value that isn't finite there, the alpha band (if
    there is one) isn't 0, and the file's own mask (if it has one) lets it.
    """

    def __init__(self, source: Any, profile: RasterProfile, bands: Sequence[int]) -> None:
        self._source = source
        self._count = len(bands)
        self._indexes = [*bands, *([profile.alpha_band] if profile.alpha_band else [])]
        self._has_alpha = profile.alpha_band is not None
        self._has_mask = not self._has_alpha and MaskFlags.per_dataset in source.mask_flag_enums[bands[0] - 1]
        self._dtype = np.dtype(profile.bands[bands[0] - 1].dtype)
        self._nodata = [native_nodata(profile.bands[band - 1].nodata, self._dtype) for band in bands]
        self._content = np.empty(0, self._dtype)
        self._planes = np.empty((self._count, CHUNK_PX), np.float32)
        self._valid = np.empty(CHUNK_PX, np.bool_)
        self._flags = np.empty(CHUNK_PX, np.bool_)

    @property
    def bytes_per_px(self) -> int:
        """How much memory a block takes for each of its pixels."""
        return len(self._indexes) * self._dtype.itemsize + int(self._has_mask)

    def read(self, window: Window) -> PixelBlock:
        """The bands' pixels in the window; the arrays are overwritten by the next read."""
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

    def chunks(self, block: PixelBlock, part: Window) -> Iterator[Chunk]:
        """A part of a block, at most `CHUNK_PX` columns wide, from top to bottom.

        The rows of the chunks are counted from the part's own top.
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
            planes.append(plane)
        return planes, valid


def native_nodata(nodata: float | None, dtype: np.dtype[Any]) -> Any:
    """The nodata value as the pixels have it, or None if no pixel can have it (or every test for NaN finds it)."""
    if nodata is None or nodata != nodata:  # noqa: PLR0124  NaN
        return None
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return dtype.type(nodata)
    limits = np.iinfo(dtype)
    if nodata != int(nodata) or not limits.min <= nodata <= limits.max:
        return None
    return dtype.type(int(nodata))
