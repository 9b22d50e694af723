"""COG builder: a raster as a cloud-optimised GeoTIFF in its own grid, with every pixel as it is."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
from rasterio.enums import ColorInterp
from rasterio.windows import Window as RasterioWindow

from aerotask.derivatives.statistics import (
    BandStatistics,
    percentiles_of,
    raster_statistics,
    statistics_of_valid,
)
from aerotask.domain.errors import InvalidInput, TaskFailed
from aerotask.raster.cog import UNITS_BYTES, CogLevel, ReadUnit, describe_cog, write_cog
from aerotask.raster.header import outer_bounds, read_profile
from aerotask.raster.io import block_bytes, open_raster
from aerotask.raster.parallel import MAX_THREADS, run_in_threads
from aerotask.raster.pixels import has_own_mask, native_nodata
from aerotask.raster.profile import RasterProfile
from aerotask.raster.windows import Shape, Window, shape_of, unit_shape, windows

PERCENTS = (2, 98)
DECODING_BYTES = 128 * 1024 * 1024
"""Memory for decoding the source's blocks, of all threads together; large blocks are read by fewer threads."""

_SAMPLE_PX = 1024
_MAX_BLOCK_PX = 1024
_SHARES = {"pixels": (0.0, 0.6), "overviews": (0.6, 0.75), "cog": (0.75, 0.85)}


def build_cog(
    source: Path, target: Path, *, threads: int, on_progress: Callable[[float], None]
) -> dict[str, Any]:
    """Write the raster at `source` as a COG at `target`, which must not exist; returns statistics and georeference.

    A raster that already is a COG is copied as it is. The source's own overviews are kept, and missing ones added.

    Raises:
        InvalidInput: the raster is not georeferenced (`not-georeferenced`), has bands that can't be kept
            (`unsupported-layout`), or can't be read (the codes are those of `raster.io.open_raster`).
        OSError: the disk is full (`ENOSPC`).
        TaskFailed: what was written doesn't read back (`derivative-damaged`).
    """
    with open_raster(source) as opened:
        _check_source(opened)
        is_cog = _is_cog(opened)
        bands = [band for band in opened.indexes if opened.colorinterp[band - 1] != ColorInterp.alpha]
        grid = _grid(opened)
    if is_cog:
        statistics = raster_statistics(source, threads=threads, on_progress=_part(on_progress, 0, 0.6))
        shutil.copyfile(source, target)
    else:
        statistics = _write(source, target, threads=threads, on_progress=on_progress)
    sample = _check(target, grid, bands, threads=threads, on_progress=_part(on_progress, 0.85, 1))
    return {
        "bands": [
            statistics[band - 1].to_properties() | {"percentiles": percentiles}
            for band, percentiles in zip(bands, percentiles_of(sample, PERCENTS), strict=True)
        ],
        **_description(target),
    }


def _check_source(opened: Any) -> None:
    if not opened.crs or opened.transform.is_identity:
        raise InvalidInput(
            "The raster is not georeferenced, so it can't be shown on a map; assign a coordinate system and bounds "
            "(gdal_translate -a_srs -a_ullr).",
            code="not-georeferenced",
        )


def _is_cog(opened: Any) -> bool:
    """Whether the raster already is a COG that maps can read: small tiles, and overviews down to a small one."""
    factors = opened.overviews(1)
    longest = max(opened.width, opened.height)
    return bool(
        opened.tags(ns="IMAGE_STRUCTURE").get("LAYOUT") == "COG"
        and max(opened.block_shapes[0]) <= _MAX_BLOCK_PX
        and longest / (factors[-1] if factors else 1) <= 2 * _MAX_BLOCK_PX
    )


def _grid(opened: Any) -> tuple[Any, ...]:
    """Everything that the COG must have in common with its source."""
    return (
        opened.crs,
        opened.shape,
        opened.dtypes,
        opened.descriptions,
        opened.colorinterp,
        opened.scales,
        opened.offsets,
        str(opened.nodata),
    )


def _write(
    source: Path, target: Path, *, threads: int, on_progress: Callable[[float], None]
) -> list[BandStatistics]:
    """Write the COG, and return the statistics of every band, which are collected from the pixels on the way."""
    with open_raster(source) as opened:
        profile = read_profile(opened)
        image = describe_cog(opened, opened.shape)
        threads = max(1, min(threads, MAX_THREADS, DECODING_BYTES // (2 * block_bytes(opened))))
        counting = _CountingReader(source, opened)
        shapes = [opened.shape, *((height, width) for width, height in profile.overview_sizes)]
        units = [_unit_shape(profile, image.layout.tile_yx, shape, threads) for shape in shapes]
        overviews = [_Reader(source, opened, level) for level in range(len(profile.overview_sizes))]
    levels = [
        CogLevel(shape, unit_yx, reader.opened)
        for shape, unit_yx, reader in zip(shapes, units, [counting, *overviews], strict=True)
    ]

    def report(stage: str, share: float) -> None:
        _part(on_progress, *_SHARES[stage])(share)

    write_cog(image, levels, target, threads=threads, on_stage=report)
    return counting.statistics()


def _unit_shape(profile: RasterProfile, tile_yx: Shape, shape_yx: Shape, threads: int) -> Shape:
    return unit_shape(
        shape_yx,
        tile_yx=tile_yx,
        block_yx=(profile.block_size[1], profile.block_size[0]),
        bytes_per_px=sum(band.value_bytes for band in profile.bands) + 1,
        unit_bytes=UNITS_BYTES // threads,
    )


class _Reader:
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


class _CountingReader(_Reader):
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


@dataclass(slots=True)
class _Checked:
    windows: list[Window]
    on_progress: Callable[[float], None]
    done: int = field(default=0)

    def count(self, _window: Window) -> None:
        self.done += 1
        self.on_progress(self.done / len(self.windows))


def _check(
    target: Path,
    grid: tuple[Any, ...],
    bands: list[int],
    *,
    threads: int,
    on_progress: Callable[[float], None],
) -> Any:
    """Decode every pixel again and check the layout; returns a reduced view of the bands.

    Raises:
        TaskFailed: the COG can't be read back or has another layout (`derivative-damaged`).
    """
    try:
        with open_raster(target) as made:
            sound = made.tags(ns="IMAGE_STRUCTURE").get("LAYOUT") == "COG" and _grid(made) == grid
            unit_yx = _unit_shape(read_profile(made), made.block_shapes[0], made.shape, threads)
            checked = _Checked(list(windows(made.shape, unit_yx)), on_progress)
            level = _sample_level(made)
        run_in_threads(
            checked.windows, threads=threads, worker=lambda: _decoder(target), on_result=checked.count
        )
        with open_raster(target, overview_level=level) as small:
            sample = small.read(indexes=bands, masked=True)
    except InvalidInput as error:
        raise TaskFailed("The COG can't be read back.", code="derivative-damaged") from error
    if not sound:
        raise TaskFailed("The COG reads back with an unexpected layout.", code="derivative-damaged")
    return sample


@contextmanager
def _decoder(target: Path) -> Iterator[Callable[[Window], Window]]:
    with open_raster(target) as made:

        def decode(window: Window) -> Window:
            made.read(window=RasterioWindow.from_slices(*window))
            return window

        yield decode


def _sample_level(made: Any) -> int | None:
    """The first overview that is small enough to be read whole; None if the raster itself is."""
    longest = max(made.width, made.height)
    if longest <= _SAMPLE_PX:
        return None
    factors = made.overviews(1)
    fitting = [level for level, factor in enumerate(factors) if longest / factor <= _SAMPLE_PX]
    if fitting:
        return fitting[0]
    return len(factors) - 1 if factors else None


def _description(target: Path) -> dict[str, Any]:
    with open_raster(target) as made:
        return {
            "width": made.width,
            "height": made.height,
            "compression": str(made.tags(ns="IMAGE_STRUCTURE").get("COMPRESSION", "")),
            "bounds": [float(value) for value in outer_bounds(made)],
        }


def _part(on_progress: Callable[[float], None], begin: float, end: float) -> Callable[[float], None]:
    return lambda share: on_progress(begin + (end - begin) * share)
