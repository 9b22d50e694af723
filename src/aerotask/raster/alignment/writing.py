"""Writer of the warped source as a COG, window by window."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import Affine

from aerotask.raster.alignment.output_grid import OutputGrid
from aerotask.raster.alignment.warping import FillValues, WindowWarper
from aerotask.raster.cog import CogLevel, OnStage, ReadUnit, describe_cog, write_cog
from aerotask.raster.io import open_raster
from aerotask.raster.pixels import SourceFile
from aerotask.raster.tiff.template import Georeference
from aerotask.raster.windows import Window

TILE_PX = 512
UNIT_BYTES = 12 * 1024 * 1024
"""Maximum bytes of the output that one thread computes at a time, unless a single tile is larger."""
UNIT_TILES = 1
"""Maximum tiles per unit in each direction: near a hole, a pixel takes some 60 bytes."""
MOVING_BYTES = 512 * 1024 * 1024
"""Memory for pixels, of all threads together; with many bands, fewer threads run."""


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
    """
    with open_raster(job.source.path) as opened:
        nodata = _nodata(opened, job.fill)
        image = describe_cog(
            opened, job.grid.shape_yx, georeference=_georeference(opened, job), nodata=nodata
        )
    # Where neither a nodata value nor alpha can mark pixels without a value.
    has_mask = nodata is None and job.source.profile.alpha_band is None
    covered: list[int] = []

    @contextmanager
    def reader() -> Iterator[ReadUnit]:
        with open_raster(job.source.path) as opened, np.errstate(all="ignore"):
            warper = WindowWarper(opened, job.grid, job.fill)

            def read(window: Window) -> tuple[Any, Any]:
                warped = warper.window(window)
                covered.append(int(warped.covered.sum()))
                return warped.pixels, warped.covered

            yield read

    level = CogLevel(job.grid.shape_yx, _unit_shape(job.source), reader)
    fitting = _fitting_threads(job.source, threads)
    with _quiet_threads():
        write_cog(replace(image, has_mask=has_mask), [level], target, threads=fitting, on_stage=on_stage)
    return sum(covered)


@contextmanager
def _quiet_threads() -> Iterator[None]:
    """Suppresses georeference warnings around threads that call `rasterio.warp.reproject`.

    It replaces the process's warning filters to ignore arrays without a georeference, and concurrent threads restore
    each other's filters: only if the filter is set before they start does no warning get through.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


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


def _georeference(opened: Any, job: WarpJob) -> Georeference:
    (a, b, c), (d, e, f) = job.grid.in_map.to_plane
    return Georeference(
        opened.crs, Affine(a, b, c, d, e, f), area_or_point=opened.tags().get("AREA_OR_POINT")
    )


def _nodata(opened: Any, fill: FillValues) -> float | None:
    """The source's nodata value, or NaN if the fill value is NaN."""
    if opened.nodata is None and np.isnan(fill.values[0]):
        return float("nan")
    return None if opened.nodata is None else float(opened.nodata)
