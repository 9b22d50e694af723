"""The pipeline: every thread reads a unit, computes its tiles, compresses them and writes them, and takes the next.

Reading, computing and writing so overlap on all cores, with no queue between them. Peak memory follows from
`windows.UNIT_BYTES`, the tile's size and `parallel.MAX_THREADS`, and not from the raster's size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rasterio.enums import ColorInterp

from aerotask.raster.colormaps import colours_of
from aerotask.raster.export.colorize import NOTHING, colorizer_for, palette_entries
from aerotask.raster.export.compute import computation_for
from aerotask.raster.export.options import ExportFormat
from aerotask.raster.export.plan import ExportPlan
from aerotask.raster.io import block_bytes, open_raster
from aerotask.raster.overviews import write_overviews
from aerotask.raster.parallel import MAX_THREADS, run_in_threads
from aerotask.raster.pixels import BandReader, PixelBlock, SourceFile
from aerotask.raster.tiff.codec import DEFLATE_LEVEL
from aerotask.raster.tiff.cog_layout import ImageFields, arrange_cog, scratch_tiff
from aerotask.raster.tiff.directory import CLASSIC_LIMIT_BYTES
from aerotask.raster.tiff.template import TemplateFields, georeference_of, template_fields
from aerotask.raster.tiff.writer import TiffLevel, TiledTiff
from aerotask.raster.windows import Shape, Window, grid_shape, tiles_within, unit_shape, windows

TILE_PX = 512
DECODING_BYTES = 256 * 1024 * 1024
"""What all threads together may need to decode the source's blocks; large blocks are read by fewer threads."""

Stage = Literal["pixels", "overviews", "cog"]
OnProgress = Callable[[Stage, float], None]
"""Told how much of a stage is done, from 0 to 1; what it raises ends the export."""


@dataclass(frozen=True, slots=True)
class ExportWriteOptions:
    """How to write; the defaults are what is used, the rest is for tests and benchmarks."""

    threads: int
    tile_px: int = TILE_PX
    unit_yx: Shape | None = None
    """The unit's shape in whole tiles, instead of the one planned from the source's blocks."""
    deflate_level: int = DEFLATE_LEVEL
    overviews: bool = True
    classic_limit_bytes: int = CLASSIC_LIMIT_BYTES


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What was written."""

    size_bytes: int
    valid_px: int


def export_image(
    source: SourceFile,
    recipe: ExportPlan,
    target: Path,
    *,
    writing: ExportWriteOptions,
    on_progress: OnProgress,
) -> ExportResult:
    """Compute what the recipe, its ranges settled, says and write it as a tiled GeoTIFF or a COG at `target`.

    `target` must not exist; what is there when an error is raised is of no use.

    Raises:
        InvalidInput: the source turns out to be damaged (`damaged-raster`).
        OSError: the target can't be written; its `errno` says why.
    """
    shape = (source.profile.height, source.profile.width)
    tile_yx = _tile_shape(shape, writing.tile_px)
    layout = colorizer_for(recipe, tile_yx=tile_yx).layout
    with open_raster(source.path) as opened:
        model = template_fields(describe_image(recipe), georeference_of(opened))
        units = _plan_units(opened, source, recipe, tile_yx, writing)
        threads = max(1, min(writing.threads, MAX_THREADS, DECODING_BYTES // (2 * block_bytes(opened))))
    is_cog = recipe.format is ExportFormat.COG
    with (scratch_tiff if is_cog else TiledTiff)(target, layout, deflate_level=writing.deflate_level) as tiff:
        job = _ExportJob(source, recipe, tiff, tiff.add_level(shape))
        valid_px = _write_pixels(job, units, threads, partial(on_progress, "pixels"))
        if writing.overviews:
            report = partial(on_progress, "overviews")
            write_overviews(tiff, job.image, threads=writing.threads, on_progress=report)
        if is_cog:
            size_bytes = arrange_cog(
                tiff,
                target,
                ImageFields(model),
                on_progress=partial(on_progress, "cog"),
                classic_limit_bytes=writing.classic_limit_bytes,
            )
        else:
            size_bytes = tiff.finish(model, classic_limit_bytes=writing.classic_limit_bytes)
    return ExportResult(size_bytes, valid_px)


def describe_image(recipe: ExportPlan) -> TemplateFields:
    """What the file says of an image made by that recipe."""
    tags = {"TIFFTAG_SOFTWARE": "Aerotask raster-export", "AEROTASK_SHOWS": recipe.title}
    if recipe.formula:
        tags["AEROTASK_FORMULA"] = recipe.formula.text
    if recipe.gives_values:
        names = [recipe.title] if recipe.formula else [f"band {number}" for number in recipe.channels]
        return TemplateFields("float32", tuple(names), nodata=float("nan"), tags=tags)
    if recipe.formula:
        tags["AEROTASK_COLORMAP"] = recipe.colormap
    if recipe.format is ExportFormat.PALETTE:
        table = _colour_table(recipe.colormap)
        return TemplateFields("uint8", (recipe.title,), nodata=0, colour_table=table, tags=tags)
    colours = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
    return TemplateFields("uint8", ("red", "green", "blue", "alpha"), colours=colours, tags=tags)


@dataclass(frozen=True, slots=True)
class _ExportJob:
    source: SourceFile
    recipe: ExportPlan
    tiff: TiledTiff
    image: TiffLevel


@dataclass(frozen=True, slots=True)
class _Units:
    shape_yx: Shape
    raster_yx: Shape

    def __iter__(self) -> Iterator[Window]:
        return windows(self.raster_yx, self.shape_yx)

    def __len__(self) -> int:
        down, across = grid_shape(self.raster_yx, self.shape_yx)
        return down * across


def _plan_units(
    opened: Any, source: SourceFile, recipe: ExportPlan, tile_yx: Shape, writing: ExportWriteOptions
) -> _Units:
    profile = source.profile
    shape = (profile.height, profile.width)
    planned = writing.unit_yx or unit_shape(
        shape,
        tile_yx=tile_yx,
        block_yx=(profile.block_size[1], profile.block_size[0]),
        bytes_per_px=BandReader(opened, profile, recipe.source_bands).bytes_per_px,
    )
    return _Units(planned, shape)


def _tile_shape(shape_yx: Shape, tile_px: int) -> Shape:
    """The tile's rows and columns: multiples of 16, as TIFF demands, and no larger than a small image needs."""
    rows, cols = (min(tile_px, size + -size % 16) for size in shape_yx)
    return rows, cols


def _write_pixels(job: _ExportJob, units: _Units, threads: int, on_progress: Callable[[float], None]) -> int:
    """Write all tiles of the image; the number of pixels that count is returned."""
    done = valid_px = 0

    def count(valid_in_unit: int) -> None:
        nonlocal done, valid_px
        done += 1
        valid_px += valid_in_unit
        on_progress(done / len(units))

    run_in_threads(units, threads=threads, worker=lambda: _unit_writer(job), on_result=count)
    return valid_px


@contextmanager
def _unit_writer(job: _ExportJob) -> Iterator[Callable[[Window], int]]:
    """One thread's own reader and buffers; the function writes a unit and returns how many pixels of it count."""
    with open_raster(job.source.path) as opened, np.errstate(all="ignore"):
        reader = BandReader(opened, job.source.profile, job.recipe.source_bands)
        paint_tile = _tile_painter(job, reader)

        def write_unit(unit: Window) -> int:
            block = reader.read(unit)
            top, left = unit[0].start, unit[1].start
            valid_px = 0
            for place, (rows, cols) in tiles_within(unit, job.tiff.layout.tile_yx):
                part = (slice(rows.start - top, rows.stop - top), slice(cols.start - left, cols.stop - left))
                valid_px += paint_tile(block, part, place)
            return valid_px

        yield write_unit


def _tile_painter(job: _ExportJob, reader: BandReader) -> Callable[[PixelBlock, Window, Shape], int]:
    """The function that computes, paints and stores one tile and returns how many of its pixels count."""
    tile_yx = job.tiff.layout.tile_yx
    painter = colorizer_for(job.recipe, tile_yx=tile_yx)
    compute = computation_for(job.recipe)
    tile = painter.layout.new_tile()

    def paint_tile(block: PixelBlock, part: Window, place: Shape) -> int:
        cols = part[1].stop - part[1].start
        if (part[0].stop - part[0].start, cols) != tile_yx:
            tile.fill(painter.layout.blank)
        valid_px = 0
        for chunk in reader.chunks(block, part):
            values = compute(chunk.planes, chunk.valid) if chunk.valid.any() else ()
            valid_in_chunk = int(np.count_nonzero(chunk.valid))
            if valid_in_chunk:
                painter.paint(values, chunk.valid, tile, rows=chunk.rows, cols=cols)
            else:
                tile[chunk.rows, :cols] = painter.layout.blank
            valid_px += valid_in_chunk
        if valid_px:
            job.tiff.put(job.image, place, tile)
        else:
            job.tiff.put_blank(job.image, place)
        return valid_px

    return paint_tile


def _colour_table(colormap: str) -> bytes:
    """The colours of the 256 entries that `palette_entries` leads to; entry 0 means nothing and is black."""
    colours = np.zeros((256, 3), np.uint8)
    source = np.frombuffer(colours_of(colormap), np.uint8).reshape(256, 3)
    # From the highest down, so that of the two colours that share entry 1 the lower one stays.
    for colour, entry in reversed(list(enumerate(palette_entries()[:NOTHING]))):
        colours[entry] = source[colour]
    return colours.tobytes()
