"""Writes the moved source: a plain GeoTIFF with overviews first, and that as a COG."""

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
"""At most so many bytes of the output are computed by one thread at a time, unless a tile is already more."""
UNIT_TILES = 1
"""Nor more tiles than this each way: beside a hole, a pixel takes some 60 bytes."""
MOVING_BYTES = 512 * 1024 * 1024
"""What all threads together may hold of pixels; with many bands, fewer threads run."""
_PLAIN_OPTIONS = {
    "GDAL_TIFF_INTERNAL_MASK": True,
    "COMPRESS_OVERVIEW": "ZSTD",
    "ZSTD_LEVEL_OVERVIEW": 1,
    "BIGTIFF_OVERVIEW": "IF_SAFER",
}
OnStage = Callable[[str, float], None]
"""Told the stage (`pixels`, `overviews`, `cog`) and how much of it is done."""


@dataclass(frozen=True, slots=True)
class WarpJob:
    """What is written: the source, on that grid, with that where nothing is."""

    source: SourceFile
    grid: OutputGrid
    filling: FillValues


def write_aligned(move: WarpJob, target: Path, *, threads: int, on_stage: OnStage) -> int:
    """Write the source on its new grid as a COG at `target`, which must not exist; how many pixels have a value.

    Raises:
        InvalidInput: the source turns out to be damaged (`damaged-raster`).
        OSError: the target can't be written; its `errno` says why.
        TaskFailed: GDAL can't write it for another reason (`cog-failed`).
    """
    plain = target.with_suffix(".plain.tif")
    plain.unlink(missing_ok=True)
    try:
        covered = _write_plain(move, plain, threads=threads, tell=on_stage)
        _write_cog(move, plain, target, threads=threads, on_progress=lambda share: on_stage("cog", share))
    except GDAL_ERRORS as error:
        raise_if_disk_full(target.parent, error)
        raise TaskFailed("GDAL could not write the aligned raster.", code="cog-failed") from error
    plain.unlink()
    return covered


def _write_plain(move: WarpJob, plain: Path, *, threads: int, tell: OnStage) -> int:
    with open_raster(move.source.path) as opened:
        options, looks = _creation_options(opened, move, threads), _looks(opened)
    with rasterio.Env(**GDAL_OPTIONS, **_PLAIN_OPTIONS), rasterio.open(plain, "w", **options) as output:
        _describe(output, looks)
        covered = _write_pixels(move, output, threads=threads, tell=tell)
        _write_overviews(move, output, tell)
    return covered


def _write_cog(
    move: WarpJob, plain: Path, target: Path, *, threads: int, on_progress: Callable[[float], None]
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
        "overviews": "FORCE_USE_EXISTING" if _overview_shapes(move) else "NONE",
        "predictor": "NO" if move.filling.nearest else "YES",
        "bigtiff": "IF_SAFER",
    }

    def report() -> None:
        written_bytes = target.stat().st_size if target.exists() else 0
        on_progress(min(written_bytes / expected_bytes, 0.99))

    copy_raster(plain, target, options, on_tick=report)
    on_progress(1)


def _write_pixels(move: WarpJob, output: Any, *, threads: int, tell: OnStage) -> int:
    units = list(windows(move.grid.shape_yx, _unit_shape(move.source)))
    # Where neither a nodata value nor alpha can say that nothing is there.
    masked = output.nodata is None and move.source.profile.alpha_band is None
    writing = threading.Lock()
    done = covered = 0

    @contextmanager
    def worker() -> Iterator[Callable[[Window], int]]:
        with open_raster(move.source.path) as opened, np.errstate(all="ignore"):
            mover = WindowWarper(opened, move.grid, move.filling)

            def write(window: Window) -> int:
                moved = mover.window(window)
                area = RasterioWindow.from_slices(*window)
                with writing:
                    output.write(moved.pixels, window=area)
                    if masked:
                        output.write_mask(moved.covered, window=area)
                return int(moved.covered.sum())

            yield write

    def count(in_unit: int) -> None:
        nonlocal done, covered
        done, covered = done + 1, covered + in_unit
        tell("pixels", done / len(units))

    with _quiet_threads():
        run_in_threads(units, threads=_fitting_threads(move.source, threads), worker=worker, on_result=count)
    return covered


@contextmanager
def _quiet_threads() -> Iterator[None]:
    """Around threads that call `rasterio.warp.reproject`.

    It swaps the process's list of warning filters to be quiet about arrays without a georeference, and threads that do
    so put back each other's lists: only where all lists are quiet from the start does no warning slip through.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def _write_overviews(move: WarpJob, output: Any, tell: OnStage) -> None:
    tell("overviews", 0)
    levels = len(_overview_shapes(move))
    resampling = Resampling.nearest if move.filling.nearest else Resampling.average
    if levels:
        output.build_overviews([2 ** (level + 1) for level in range(levels)], resampling)
    tell("overviews", 1)


def _overview_shapes(move: WarpJob) -> list[Shape]:
    return overview_shapes(move.grid.shape_yx, (TILE_PX, TILE_PX))


def _unit_shape(source: SourceFile) -> tuple[int, int]:
    """Whole tiles, as square as they can be: a turned rectangle needs more of the source than a square."""
    profile = source.profile
    tile_bytes = TILE_PX * TILE_PX * profile.count * np.dtype(profile.bands[0].dtype).itemsize
    side = max(int((UNIT_BYTES / tile_bytes) ** 0.5), 1)
    return min(side, UNIT_TILES) * TILE_PX, min(side, UNIT_TILES) * TILE_PX


def _fitting_threads(source: SourceFile, threads: int) -> int:
    """As many threads as may hold a unit: of the source up to twice its size, and of a band in floating numbers."""
    pixel_bytes = source.profile.count * np.dtype(source.profile.bands[0].dtype).itemsize
    rows, cols = _unit_shape(source)
    return max(1, min(threads, MOVING_BYTES // (rows * cols * (4 * pixel_bytes + 60))))


def _creation_options(opened: Any, move: WarpJob, threads: int) -> dict[str, Any]:
    grid, filling = move.grid, move.filling
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
        "nodata": _nodata(opened, filling),
        "tiled": True,
        "blockxsize": TILE_PX,
        "blockysize": TILE_PX,
        "interleave": "pixel",
        "photometric": "RGB" if coloured else "PALETTE" if filling.nearest else "MINISBLACK",
        # Read once more and thrown away: quick rather than small.
        "compress": "zstd",
        "zstd_level": 1,
        "num_threads": threads,
        "bigtiff": "IF_SAFER",
    }


def _nodata(opened: Any, filling: FillValues) -> float | None:
    """The source's own value, or NaN where that stands for nothing."""
    if opened.nodata is None and np.isnan(filling.values[0]):
        return float("nan")
    return None if opened.nodata is None else float(opened.nodata)


def _looks(opened: Any) -> dict[str, Any]:
    """What the source says of itself and of its bands."""
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


def _describe(output: Any, looks: dict[str, Any]) -> None:
    for number, description in enumerate(looks["descriptions"], start=1):
        if description:
            output.set_band_description(number, description)
    output.colorinterp = looks["colorinterp"]
    output.units = [unit or "" for unit in looks["units"]]
    output.scales, output.offsets = looks["scales"], looks["offsets"]
    output.update_tags(**looks["tags"])
    if looks["colormap"]:
        output.write_colormap(1, looks["colormap"])
