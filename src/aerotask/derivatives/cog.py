"""COG builder: a raster as a cloud-optimised GeoTIFF in its own grid, with every pixel as it is."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rasterio.enums import ColorInterp
from rasterio.windows import Window as RasterioWindow

from aerotask.derivatives.raster_readers import (
    CountingReader,
    LevelReader,
    sample_level,
    threads_for,
    units_of,
)
from aerotask.derivatives.statistics import (
    BandStatistics,
    percentiles_of,
    raster_statistics,
)
from aerotask.domain.errors import InvalidInput, TaskFailed
from aerotask.raster.cog import CogLevel, describe_cog, write_cog
from aerotask.raster.georeference.placement import placement_of
from aerotask.raster.georeference.side_files import is_side_georeferenced
from aerotask.raster.header import read_profile
from aerotask.raster.io import open_raster
from aerotask.raster.parallel import run_in_threads
from aerotask.raster.windows import Window, windows

PERCENTS = (2, 98)
NOTED_GROWTH = 4
"""A COG that has grown more than this, as one of a JPEG may, is mentioned in the warnings."""
_NOTED_BYTES = 1024 * 1024
_MAX_BLOCK_PX = 1024
_SHARES = {"pixels": (0.0, 0.6), "overviews": (0.6, 0.75), "cog": (0.75, 0.85)}


def build_cog(
    source: Path, target: Path, *, threads: int, on_progress: Callable[[float], None]
) -> dict[str, Any]:
    """Write the raster at `source` as a COG at `target`, which must not exist; returns its properties.

    A raster that already is a COG is copied as it is. The source's own overviews are kept, and missing ones added.

    Raises:
        InvalidInput: the raster is not georeferenced (`not-georeferenced`), has bands that can't be kept
            (`unsupported-layout`), or can't be read (the codes are those of `raster.io.open_raster`).
        OSError: the disk is full (`ENOSPC`).
        TaskFailed: what was written doesn't read back (`derivative-damaged`).
    """
    with open_raster(source) as opened:
        placement_of(opened)
        is_cog = _is_cog(opened)
        bands = [band for band in opened.indexes if opened.colorinterp[band - 1] != ColorInterp.alpha]
        grid = _grid(opened)
        page_warning = read_profile(opened).page_warning
    if is_cog:
        shutil.copyfile(source, target)
        # Reads every pixel, so the copy needn't be decoded once more to check it.
        statistics = raster_statistics(target, threads=threads, on_progress=_part(on_progress, 0, 0.95))
    else:
        statistics = _write(source, target, threads=threads, on_progress=on_progress)
        _decode(target, threads=threads, on_progress=_part(on_progress, 0.85, 0.99))
    sample = _check(target, grid, bands)
    on_progress(1)
    return {
        "bands": [
            statistics[band - 1].to_properties() | {"percentiles": percentiles}
            for band, percentiles in zip(bands, percentiles_of(sample, PERCENTS), strict=True)
        ],
        **_description(target),
        "warnings": [line for line in (page_warning, _growth_warning(source, target)) if line],
    }


def _growth_warning(source: Path, target: Path) -> str | None:
    before, after = source.stat().st_size, target.stat().st_size
    if after < max(NOTED_GROWTH * before, _NOTED_BYTES):
        return None
    return (
        f"The COG takes {after / 1e6:,.0f} MB, {after / before:.0f} times as much as the file: it has overviews, and "
        "its pixels are stored without loss, which those of a JPEG are not."
    )


def _is_cog(opened: Any) -> bool:
    """Whether the raster already is a COG that maps can read: small tiles, and overviews down to a small one."""
    factors = opened.overviews(1)
    longest = max(opened.width, opened.height)
    return bool(
        opened.tags(ns="IMAGE_STRUCTURE").get("LAYOUT") == "COG"
        and not is_side_georeferenced(opened)
        and max(opened.block_shapes[0]) <= _MAX_BLOCK_PX
        and longest / (factors[-1] if factors else 1) <= 2 * _MAX_BLOCK_PX
    )


def _grid(opened: Any) -> tuple[Any, ...]:
    """Everything that the COG must have in common with its source."""
    return (
        opened.crs,
        [(point.row, point.col, point.x, point.y) for point in opened.gcps[0]],
        opened.rpcs,
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
        threads = threads_for(opened, threads)
        counting = CountingReader(source, opened)
        shapes = [opened.shape, *((height, width) for width, height in profile.overview_sizes)]
        units = [units_of(profile, image.layout.tile_yx, shape, threads) for shape in shapes]
        overviews = [LevelReader(source, opened, level) for level in range(len(profile.overview_sizes))]
    levels = [
        CogLevel(shape, unit_yx, reader.opened)
        for shape, unit_yx, reader in zip(shapes, units, [counting, *overviews], strict=True)
    ]

    def report(stage: str, share: float) -> None:
        _part(on_progress, *_SHARES[stage])(share)

    write_cog(image, levels, target, threads=threads, on_stage=report)
    return counting.statistics()


@dataclass(slots=True)
class _Checked:
    windows: list[Window]
    on_progress: Callable[[float], None]
    done: int = field(default=0)

    def count(self, _window: Window) -> None:
        self.done += 1
        self.on_progress(self.done / len(self.windows))


def _decode(target: Path, *, threads: int, on_progress: Callable[[float], None]) -> None:
    """Decode every pixel again.

    Raises:
        TaskFailed: the COG can't be read back (`derivative-damaged`).
    """
    with _errors_as_damaged_cog():
        with open_raster(target) as made:
            unit_yx = units_of(read_profile(made), made.block_shapes[0], made.shape, threads)
            checked = _Checked(list(windows(made.shape, unit_yx)), on_progress)
        run_in_threads(
            checked.windows, threads=threads, worker=lambda: _decoder(target), on_result=checked.count
        )


def _check(target: Path, grid: tuple[Any, ...], bands: list[int]) -> Any:
    """Check the layout; returns a reduced view of the bands.

    Raises:
        TaskFailed: the COG can't be read back or has another layout (`derivative-damaged`).
    """
    with _errors_as_damaged_cog():
        with open_raster(target) as made:
            sound = made.tags(ns="IMAGE_STRUCTURE").get("LAYOUT") == "COG" and _grid(made) == grid
            level = sample_level(made)
        with open_raster(target, overview_level=level) as small:
            sample = small.read(indexes=bands, masked=True)
    if not sound:
        raise TaskFailed("The COG reads back with an unexpected layout.", code="derivative-damaged")
    return sample


@contextmanager
def _errors_as_damaged_cog() -> Iterator[None]:
    try:
        yield
    except InvalidInput as error:
        raise TaskFailed("The COG can't be read back.", code="derivative-damaged") from error


@contextmanager
def _decoder(target: Path) -> Iterator[Callable[[Window], Window]]:
    with open_raster(target) as made:

        def decode(window: Window) -> Window:
            made.read(window=RasterioWindow.from_slices(*window))
            return window

        yield decode


def _description(target: Path) -> dict[str, Any]:
    with open_raster(target) as made:
        return {
            "width": made.width,
            "height": made.height,
            "compression": str(made.tags(ns="IMAGE_STRUCTURE").get("COMPRESSION", "")),
            "bounds": [float(value) for value in placement_of(made).outer_bounds()],
        }


def _part(on_progress: Callable[[float], None], begin: float, end: float) -> Callable[[float], None]:
    return lambda share: on_progress(begin + (end - begin) * share)
