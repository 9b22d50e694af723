"""Writer of the warped source: first a plain GeoTIFF with overviews, then a COG made of it."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import NotGeoreferencedWarning
from rasterio.windows import Window as RasterioWindow

from aerotask.domain.errors import TaskFailed
from aerotask.raster.alignment.output_grid import OutputGrid
from aerotask.raster.alignment.warping import FillValues, WindowWarper
from aerotask.raster.gdal_copy import copy_raster, raise_if_disk_full
from aerotask.raster.io import GDAL_ERRORS, GDAL_OPTIONS, open_raster
from aerotask.raster.overviews import overview_shapes
from aerotask.raster.parallel import run_in_threads
from aerotask.raster.pixels import SourceFile
from aerotask.raster.tiff.codec import DEFLATE_LEVEL
from aerotask.raster.windows import Shape, Window, windows

TILE_PX = 512
UNIT_BYTES = 12 * 1024 * 1024
"""Maximum bytes of the output that one thread computes at a time, unless a single tile is larger."""
UNIT_TILES = 1
"""Maximum tiles per unit in each direction: near a hole, a pixel takes some 60 bytes."""
MOVING_BYTES = 512 * 1024 * 1024
"""Memory for pixels, of all threads together; with many bands, fewer threads run."""
_PLAIN_OPTIONS = {
    "GDAL_TIFF_INTERNAL_MASK": True,
    "COMPRESS_OVERVIEW": "ZSTD",
    "ZSTD_LEVEL_OVERVIEW": 1,
    "BIGTIFF_OVERVIEW": "IF_SAFER",
}
OnStage = Callable[[str, float], None]
"""Receives the stage (`pixels`, `overviews`, `cog`) and its progress from 0 to 1."""


@dataclass(frozen=True, slots=True)
class WarpJob:
    """Source, output grid and fill values of a warp."""

    source: SourceFile
    grid: OutputGrid
    fill: FillValues


def write_aligned(job: WarpJob, target: Path, *, threads: int, on_stage: OnStage) -> int:
    """Write the source on its new grid as a COG at `target`, which must not exist; return its number of valid pixels.

    Raises:
        InvalidInput: the source is damaged (`damaged-raster`).
        OSError: the target can't be written; its `errno` says why.
        TaskFailed: GDAL can't write it for another reason (`cog-failed`).
    """
    plain = target.with_suffix(".plain.tif")
    plain.unlink(missing_ok=True)
    try:
        covered = _write_plain(job, plain, threads=threads, on_stage=on_stage)
        _write_cog(job, plain, target, threads=threads, on_progress=lambda share: on_stage("cog", share))
    except GDAL_ERRORS as error:
        raise_if_disk_full(target.parent, error)
        raise TaskFailed("GDAL could not write the aligned raster.", code="cog-failed") from error
    plain.unlink()
    return covered


def _write_plain(job: WarpJob, plain: Path, *, threads: int, on_stage: OnStage) -> int:
    with open_raster(job.source.path) as opened:
        options, metadata = _creation_options(opened, job, threads), _read_metadata(opened)
    with rasterio.Env(**GDAL_OPTIONS, **_PLAIN_OPTIONS), rasterio.open(plain, "w", **options) as output:
        _write_metadata(output, metadata)
        covered = _write_pixels(job, output, threads=threads, on_stage=on_stage)
        _write_overviews(job, output, on_stage)
    return covered


def _write_cog(
    job: WarpJob, plain: Path, target: Path, *, threads: int, on_progress: Callable[[float], None]
) -> None:
    """Copy the plain GeoTIFF, its overviews included, as a COG.

    By GDAL's driver: `tiff.cog_layout` has no internal masks, scales and units.
    """
    expected_bytes = plain.stat().st_size
    options = {
        "driver": "COG",
        "blocksize": TILE_PX,
        "compress": "DEFLATE",
        "level": DEFLATE_LEVEL,
        "num_threads": threads,
        "overviews": "FORCE_USE_EXISTING" if _overview_shapes(job) else "NONE",
        "predictor": "NO" if job.fill.nearest else "YES",
        "bigtiff": "IF_SAFER",
    }

    def report() -> None:
        written_bytes = target.stat().st_size if target.exists() else 0
        on_progress(min(written_bytes / expected_bytes, 0.99))

    copy_raster(plain, target, options, on_tick=report)
    on_progress(1)


def _write_pixels(job: WarpJob, output: Any, *, threads: int, on_stage: OnStage) -> int:
    units = list(windows(job.grid.shape_yx, _unit_shape(job.source)))
    # Where neither a nodata value nor alpha can mark pixels without a value.
    needs_mask = output.nodata is None and job.source.profile.alpha_band is None
    lock = threading.Lock()
    done = covered = 0

    @contextmanager
    def worker() -> Iterator[Callable[[Window], int]]:
        with open_raster(job.source.path) as opened, np.errstate(all="ignore"):
            warper = WindowWarper(opened, job.grid, job.fill)

            def write(window: Window) -> int:
                warped = warper.window(window)
                area = RasterioWindow.from_slices(*window)
                with lock:
                    output.write(warped.pixels, window=area)
                    if needs_mask:
                        output.write_mask(warped.covered, window=area)
                return int(warped.covered.sum())

            yield write

    def count(in_unit: int) -> None:
        nonlocal done, covered
        done, covered = done + 1, covered + in_unit
        on_stage("pixels", done / len(units))

    with _quiet_threads():
        run_in_threads(units, threads=_fitting_threads(job.source, threads), worker=worker, on_result=count)
    return covered


@contextmanager
def _quiet_threads() -> Iterator[None]:
    """Suppresses georeference warnings around threads that call `rasterio.warp.reproject`.

    It replaces the process's warning filters to ignore arrays without a georeference, and concurrent threads restore
    each other's filters: only if the filter is set before they start does no warning get through.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def _write_overviews(job: WarpJob, output: Any, on_stage: OnStage) -> None:
    on_stage("overviews", 0)
    levels = len(_overview_shapes(job))
    resampling = Resampling.nearest if job.fill.nearest else Resampling.average
    if levels:
        output.build_overviews([2 ** (level + 1) for level in range(levels)], resampling)
    on_stage("overviews", 1)


def _overview_shapes(job: WarpJob) -> list[Shape]:
    return overview_shapes(job.grid.shape_yx, (TILE_PX, TILE_PX))


def _unit_shape(source: SourceFile) -> tuple[int, int]:
    """Whole tiles, as square as possible: a rotated rectangle needs more of the source than a square."""
    profile = source.profile
    tile_bytes = TILE_PX * TILE_PX * profile.count * np.dtype(profile.bands[0].dtype).itemsize
    side = max(int((UNIT_BYTES / tile_bytes) ** 0.5), 1)
    return min(side, UNIT_TILES) * TILE_PX, min(side, UNIT_TILES) * TILE_PX


def _fitting_threads(source: SourceFile, threads: int) -> int:
    """The number of threads by memory: each holds a unit, up to twice as much of the source, and one band as floats."""
    pixel_bytes = source.profile.count * np.dtype(source.profile.bands[0].dtype).itemsize
    rows, cols = _unit_shape(source)
    return max(1, min(threads, MOVING_BYTES // (rows * cols * (4 * pixel_bytes + 60))))


def _creation_options(opened: Any, job: WarpJob, threads: int) -> dict[str, Any]:
    grid, fill = job.grid, job.fill
    (a, b, c), (d, e, f) = grid.in_map.to_plane
    colours = opened.colorinterp[:3]
    coloured = colours == (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
    return {
        "driver": "GTiff",
        "height": grid.shape_yx[0],
        "width": grid.shape_yx[1],
        "count": opened.count,
        "dtype": opened.dtypes[0],
        "crs": opened.crs,
        "transform": rasterio.Affine(a, b, c, d, e, f),
        "nodata": _nodata(opened, fill),
        "tiled": True,
        "blockxsize": TILE_PX,
        "blockysize": TILE_PX,
        "interleave": "pixel",
        "photometric": "RGB" if coloured else "PALETTE" if fill.nearest else "MINISBLACK",
        # A scratch file, read once: fast rather than small.
        "compress": "zstd",
        "zstd_level": 1,
        "num_threads": threads,
        "bigtiff": "IF_SAFER",
    }


def _nodata(opened: Any, fill: FillValues) -> float | None:
    """The source's nodata value, or NaN if the fill value is NaN."""
    if opened.nodata is None and np.isnan(fill.values[0]):
        return float("nan")
    return None if opened.nodata is None else float(opened.nodata)


def _read_metadata(opened: Any) -> dict[str, Any]:
    """The metadata of the source and of its bands, to be copied to the output."""
    try:
        table = opened.colormap(1)
    except ValueError:
        table = None
    return {
        "descriptions": opened.descriptions,
        "colorinterp": opened.colorinterp,
        "units": opened.units,
        "scales": opened.scales,
        "offsets": opened.offsets,
        "tags": opened.tags(),
        "colormap": table,
    }


def _write_metadata(output: Any, metadata: dict[str, Any]) -> None:
    for number, description in enumerate(metadata["descriptions"], start=1):
        if description:
            output.set_band_description(number, description)
    output.colorinterp = metadata["colorinterp"]
    output.units = [unit or "" for unit in metadata["units"]]
    output.scales, output.offsets = metadata["scales"], metadata["offsets"]
    output.update_tags(**metadata["tags"])
    if metadata["colormap"]:
        output.write_colormap(1, metadata["colormap"])
