"""Readers of a raster's levels by units, for writing its COG or its overviews, with statistics collected on the way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
from rasterio.enums import ColorInterp
from rasterio.windows import Window as RasterioWindow

from aerotask.derivatives.statistics import BandStatistics, statistics_of_valid
from aerotask.raster.cog import UNITS_BYTES, ReadUnit
from aerotask.raster.io import block_bytes, open_raster
from aerotask.raster.parallel import MAX_THREADS
from aerotask.raster.pixels import has_own_mask, native_nodata
from aerotask.raster.profile import RasterProfile
from aerotask.raster.windows import Shape, Window, shape_of, unit_shape

DECODING_BYTES = 128 * 1024 * 1024
"""Memory for decoding the source's blocks, of all threads together; large blocks are read by fewer threads."""

SAMPLE_PX = 1024
"""Longest side of the reduced view from which percentiles come."""


def threads_for(opened: Any, threads: int) -> int:
    """Number of threads that may decode blocks of the open raster at once, of so many."""
    return max(1, min(threads, MAX_THREADS, DECODING_BYTES // (2 * block_bytes(opened))))


def units_of(profile: RasterProfile, tile_yx: Shape, shape_yx: Shape, threads: int) -> Shape:
    """The shape of the units of a level of that shape, in whole tiles of `tile_yx`, for so many threads."""
    return unit_shape(
        shape_yx,
        tile_yx=tile_yx,
        block_yx=(profile.block_size[1], profile.block_size[0]),
        bytes_per_px=sum(band.value_bytes for band in profile.bands) + 1,
        unit_bytes=UNITS_BYTES // threads,
    )


class LevelReader:
    """Reader of a raster, or of an overview of its own, by units."""

    def __init__(self, path: Path, opened: Any, level: int | None) -> None:
        self._path, self._level = path, level
        self._has_mask = has_own_mask(opened)

    @contextmanager
    def opened(self) -> Iterator[ReadUnit]:
        """Reader of units for one thread."""
        with open_raster(self._path, overview_level=self._level) as source:
            buffer = np.empty(0, source.dtypes[0])

            def read(unit: Window) -> tuple[Any, Any]:
                nonlocal buffer
                rows, cols = shape_of(unit)
                size = source.count * rows * cols
                if buffer.size < size:
                    buffer = np.empty(size, source.dtypes[0])
                planes = buffer[:size].reshape(-1, rows, cols)
                area = RasterioWindow.from_slices(*unit)
                source.read(window=area, out=planes)
                mask = source.read_masks(1, window=area).view(np.bool_) if self._has_mask else None
                self._on_read(unit, planes, mask)
                return planes, mask

            yield read

    def _on_read(self, unit: Window, planes: Any, mask: Any) -> None:
        pass


class CountingReader(LevelReader):
    """Reader that collects statistics of the units as they are read."""

    def __init__(self, path: Path, opened: Any) -> None:
        super().__init__(path, opened, None)
        dtype = np.dtype(opened.dtypes[0])
        self._nodata = [
            None if self._has_mask else native_nodata(value, dtype) for value in opened.nodatavals
        ]
        colours = list(opened.colorinterp)
        self._alpha = colours.index(ColorInterp.alpha) if ColorInterp.alpha in colours else None
        self._found: dict[tuple[int, int], list[BandStatistics]] = {}

    def _on_read(self, unit: Window, planes: Any, mask: Any) -> None:
        valid = mask if self._alpha is None else planes[self._alpha] != 0
        self._found[unit[0].start, unit[1].start] = [
            statistics_of_valid(plane, valid, nodata)
            for plane, nodata in zip(planes, self._nodata, strict=True)
        ]

    def statistics(self) -> list[BandStatistics]:
        """The statistics of each band; the units are added up in their order, so that the sums are always the same."""
        by_unit = [self._found[place] for place in sorted(self._found)]
        return [reduce(BandStatistics.merged, of_band) for of_band in zip(*by_unit, strict=True)]


def sample_level(made: Any) -> int | None:
    """The first overview that is small enough to be read whole; None if the raster itself is."""
    longest = max(made.width, made.height)
    if longest <= SAMPLE_PX:
        return None
    factors = made.overviews(1)
    fitting = [level for level, factor in enumerate(factors) if longest / factor <= SAMPLE_PX]
    if fitting:
        return fitting[0]
    return len(factors) - 1 if factors else None
