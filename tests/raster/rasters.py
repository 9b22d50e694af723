"""Small rasters written for a test, exported and read back."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import from_origin

from aerotask.raster.export.options import DisplayOptions, ExportFormat, ExportOptions
from aerotask.raster.export.plan import ExportPlan, make_plan
from aerotask.raster.export.stretch import percentile_stretch
from aerotask.raster.export.write import ExportResult, ExportWriteOptions, export_image
from aerotask.raster.header import read_profile
from aerotask.raster.io import open_raster
from aerotask.raster.pixels import SourceFile

Pixels = np.ndarray[Any, np.dtype[Any]]
"""(bands, rows, cols)"""

TWO_THREADS = ExportWriteOptions(threads=2)


def write_raster(
    path: Path,
    pixels: Pixels,
    *,
    descriptions: Sequence[str] = (),
    colours: Sequence[Any] = (),
    mask: Pixels | None = None,
    tags: dict[str, str] | None = None,
    overviews: Sequence[int] = (),
    **options: Any,
) -> Path:
    """Write a GeoTIFF in EPSG:32632 with pixels of half a metre; further options are rasterio's."""
    settings: dict[str, Any] = {
        "driver": "GTiff",
        "width": pixels.shape[2],
        "height": pixels.shape[1],
        "count": pixels.shape[0],
        "dtype": pixels.dtype,
        "crs": "EPSG:32632",
        "transform": from_origin(500_000, 5_000_000, 0.5, 0.5),
        "photometric": "MINISBLACK",
    } | options
    if settings["driver"] != "GTiff":
        del settings["photometric"]
    with warnings.catch_warnings(), rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", **settings) as target:
            if colours:
                target.colorinterp = colours
            target.update_tags(**tags or {})
            target.write(pixels)
            for number, text in enumerate(descriptions, start=1):
                target.set_band_description(number, text)
            if mask is not None:
                target.write_mask(mask)
            if overviews:
                target.build_overviews(overviews)
    return path


def source_file(path: Path) -> SourceFile:
    with open_raster(path) as opened:
        return SourceFile(path, read_profile(opened))


def parse_options(*, format: str = "gtiff", **display: Any) -> ExportOptions:  # noqa: A002  the tool's parameter
    """The parsed options of the tool's parameters without path and file name."""
    return DisplayOptions.model_validate(display).parsed(format=ExportFormat(format))


def settled_plan(source: SourceFile, **parameters: Any) -> ExportPlan:
    """The plan for the tool's parameters, with ranges taken from the pixels where needed."""
    plan = make_plan(parse_options(**parameters), source.profile)
    if plan.ranges is None and not plan.gives_values:
        stretch = percentile_stretch(source, plan, threads=2, on_progress=lambda _share: None)
        return replace(plan, ranges=stretch.ranges)
    return plan


def export(
    path: Path, target: Path, writing: ExportWriteOptions = TWO_THREADS, **parameters: Any
) -> ExportResult:
    """Export a raster with the tool's parameters to `target`, replacing an existing file."""
    source = source_file(path)
    plan = settled_plan(source, **parameters)
    target.unlink(missing_ok=True)
    return export_image(source, plan, target, writing=writing, on_progress=lambda _stage, _share: None)


def read(path: Path) -> Pixels:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as opened:
            pixels: Pixels = opened.read()
    return pixels


def slope(shape_yx: tuple[int, int], *, bands: int = 2) -> Pixels:
    """The raster with known expectations: 100 + 100·((x+y) mod 251)/251 + 80·band, as float32."""
    rows, cols = np.mgrid[: shape_yx[0], : shape_yx[1]]
    steps = (rows + cols) % 251
    return np.stack([100 + 100 * steps / 251 + 80 * band for band in range(bands)]).astype(np.float32)
