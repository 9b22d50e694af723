"""Export pipeline: each thread reads a unit, computes, compresses and writes its tiles, and takes the next unit.

Reading, computing and writing overlap on all cores without a queue. Peak memory follows from
`windows.UNIT_BYTES`, the tile's size and `parallel.MAX_THREADS`, and not from the raster's size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rasterio.enums import ColorInterp
from rasterio.transform import Affine

from aerotask.raster.colormaps import colours_of
from aerotask.raster.export.colorize import (
    NOTHING,
    Colorizer,
    blank_entry,
    colorizer_for,
    own_colours,
    palette_entries,
)
from aerotask.raster.export.compute import computation_for
from aerotask.raster.export.options import ExportFormat
from aerotask.raster.export.physical_values import INT16_NODATA
from aerotask.raster.export.plan import ExportPlan
from aerotask.raster.expression.evaluate import Flags
from aerotask.raster.expression.syntax import Name
from aerotask.raster.io import block_bytes, open_raster
from aerotask.raster.overviews import OverviewRules, write_overviews
from aerotask.raster.parallel import MAX_THREADS, run_in_threads
from aerotask.raster.pixels import BandReader, Chunk, PixelBlock, SourceFile
from aerotask.raster.profile import Scaling
from aerotask.raster.tiff.codec import DEFLATE_LEVEL, INTEGER_PREDICTOR, tile_shape
from aerotask.raster.tiff.cog_layout import ImageFields, arrange_cog, scratch_tiff
from aerotask.raster.tiff.directory import CLASSIC_LIMIT_BYTES
from aerotask.raster.tiff.template import Georeference, TemplateFields, georeference_of, template_fields
from aerotask.raster.tiff.writer import TiffLevel, TiledTiff
from aerotask.raster.windows import (
    UNIT_BYTES,
    Shape,
    Window,
    grid_shape,
    shape_of,
    shifted,
    tiles_within,
    unit_shape,
    windows,
)

TILE_PX = 512
DECODING_BYTES = 256 * 1024 * 1024
"""Memory for decoding the source's blocks, of all threads together; large blocks are read by fewer threads."""

_LARGER_UNITS = 4, 3, 2
"""Tiles along the side of an area's units: its tiles lie across the source's blocks, and a smaller share of a larger unit's
blocks is decoded twice."""

Stage = Literal["pixels", "overviews", "cog"]
OnProgress = Callable[[Stage, float], None]
"""Receives the stage and its progress from 0 to 1; an exception that it raises ends the export."""


@dataclass(frozen=True, slots=True)
class ExportWriteOptions:
    """Options of the pipeline; production uses the defaults, tests and benchmarks set others."""

    threads: int
    tile_px: int = TILE_PX
    unit_yx: Shape | None = None
    """The unit's shape in whole tiles, instead of the one planned from the source's blocks."""
    deflate_level: int = DEFLATE_LEVEL
    overviews: bool = True
    classic_limit_bytes: int = CLASSIC_LIMIT_BYTES


@dataclass(frozen=True, slots=True)
class ExportResult:
    """Size of the written file, its number of pixels that have a value, and of those whose value didn't fit its type."""

    size_bytes: int
    valid_px: int
    clipped_px: int = 0


def export_image(
    source: SourceFile,
    plan: ExportPlan,
    target: Path,
    *,
    writing: ExportWriteOptions,
    on_progress: OnProgress,
) -> ExportResult:
    """Execute a plan, whose ranges must be set, and write a tiled GeoTIFF or a COG at `target`.

    `target` must not exist; a file left by an error is incomplete.

    Raises:
        InvalidInput: the source is damaged (`damaged-raster`).
        OSError: the target can't be written; its `errno` says why.
    """
    shape = shape_of(plan.window_of(source.profile))
    tile_yx = tile_shape(shape, tile_px=writing.tile_px)
    with open_raster(source.path) as opened:
        layout = colorizer_for(plan, opened, tile_yx=tile_yx).layout
        image = describe_image(plan, opened)
        fields = template_fields(image, _georeference(plan, opened))
        units = _plan_units(opened, source, plan, tile_yx, writing)
        threads = max(1, min(writing.threads, MAX_THREADS, DECODING_BYTES // (2 * block_bytes(opened))))
    is_cog = plan.format is ExportFormat.COG
    with (scratch_tiff if is_cog else TiledTiff)(target, layout, deflate_level=writing.deflate_level) as tiff:
        job = _ExportJob(source, plan, tiff, tiff.add_level(shape))
        count = _write_pixels(job, units, threads, partial(on_progress, "pixels"))
        if writing.overviews:
            report = partial(on_progress, "overviews")
            rules = OverviewRules(nodata=image.nodata)
            write_overviews(tiff, threads=writing.threads, on_progress=report, rules=rules)
        if is_cog:
            size_bytes = arrange_cog(
                tiff,
                target,
                ImageFields(fields),
                on_progress=partial(on_progress, "cog"),
                classic_limit_bytes=writing.classic_limit_bytes,
            )
        else:
            size_bytes = tiff.finish(fields, classic_limit_bytes=writing.classic_limit_bytes)
    return ExportResult(size_bytes, count.valid_px, count.clipped_px)


def describe_image(plan: ExportPlan, source: Any) -> TemplateFields:
    """TIFF fields and tags that describe the image of a plan for an open raster."""
    tags = {"TIFFTAG_SOFTWARE": "Aerotask raster-export", "AEROTASK_SHOWS": plan.title}
    if plan.formula:
        tags["AEROTASK_FORMULA"] = plan.formula.text
    if plan.gives_values:
        names = [plan.title] if plan.formula else [f"band {number}" for number in plan.channels]
        kept = _kept_scalings(plan, source)
        if plan.number_scaling is not None:
            return TemplateFields(
                "int16",
                tuple(names),
                nodata=INT16_NODATA,
                tags=tags,
                predictor=INTEGER_PREDICTOR,
                scalings=(_combined(plan.number_scaling, kept[0] if kept else (1.0, 0.0)),),
            )
        return TemplateFields("float32", tuple(names), nodata=float("nan"), tags=tags, scalings=kept)
    if plan.formula:
        tags["AEROTASK_COLORMAP"] = plan.colormap
    if plan.format is ExportFormat.PALETTE:
        if plan.keeps_colours:
            band = plan.source_bands[0]
            table = own_colours(source, band)[:NOTHING, :3].tobytes()
            blank = blank_entry(source, band, is_cut=plan.is_cut)
            return TemplateFields("uint8", (plan.title,), nodata=blank, colour_table=table, tags=tags)
        table = _colour_table(plan.colormap)
        return TemplateFields("uint8", (plan.title,), nodata=0, colour_table=table, tags=tags)
    colours = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
    return TemplateFields("uint8", ("red", "green", "blue", "alpha"), colours=colours, tags=tags)


def _kept_scalings(plan: ExportPlan, source: Any) -> tuple[Scaling, ...]:
    """Scale and offset of each band of the result: those of the source for bands of unchanged numbers."""
    bands = plan.channels
    if plan.formula and isinstance(plan.formula.expression, Name):
        bands = plan.source_bands
    if plan.scalings or not bands:
        return ()
    return tuple((source.scales[band - 1], source.offsets[band - 1]) for band in bands)


def _combined(inner: Scaling, outer: Scaling) -> Scaling:
    """Scale and offset of numbers whose values by `inner` are themselves numbers of `outer`."""
    return inner[0] * outer[0], inner[1] * outer[0] + outer[1]


def _georeference(plan: ExportPlan, source: Any) -> Georeference:
    """The georeference of the exported window; RPCs, which only refine a geotransform, belong to the whole raster."""
    whole = georeference_of(source)
    if plan.area is None:
        return whole
    rows, cols = plan.area.window
    moved = source.transform * Affine.translation(cols.start, rows.start)
    return replace(whole, transform=moved, gcps=(), rpcs=None)


@dataclass(frozen=True, slots=True)
class _PixelCount:
    valid_px: int = 0
    clipped_px: int = 0


@dataclass(frozen=True, slots=True)
class _ExportJob:
    source: SourceFile
    plan: ExportPlan
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
    opened: Any, source: SourceFile, plan: ExportPlan, tile_yx: Shape, writing: ExportWriteOptions
) -> _Units:
    profile = source.profile
    shape = shape_of(plan.window_of(profile))
    if writing.unit_yx:
        return _Units(writing.unit_yx, shape)
    bytes_per_px = BandReader(opened, profile, plan.source_bands).bytes_per_px
    for tiles in _LARGER_UNITS if plan.area else ():
        larger = (tiles * tile_yx[0], tiles * tile_yx[1])
        units = _Units(larger, shape)
        if larger[0] * larger[1] * bytes_per_px <= UNIT_BYTES and len(units) >= 2 * writing.threads:
            return units
    planned = unit_shape(
        shape,
        tile_yx=tile_yx,
        block_yx=(profile.block_size[1], profile.block_size[0]),
        bytes_per_px=bytes_per_px,
    )
    return _Units(planned, shape)


def _write_pixels(
    job: _ExportJob, units: _Units, threads: int, on_progress: Callable[[float], None]
) -> _PixelCount:
    """Write all tiles of the image and count its pixels."""
    done = 0
    total = _PixelCount()

    def count(in_unit: _PixelCount) -> None:
        nonlocal done, total
        done += 1
        total = _PixelCount(total.valid_px + in_unit.valid_px, total.clipped_px + in_unit.clipped_px)
        on_progress(done / len(units))

    run_in_threads(units, threads=threads, worker=lambda: _unit_writer(job), on_result=count)
    return total


@contextmanager
def _unit_writer(job: _ExportJob) -> Iterator[Callable[[Window], _PixelCount]]:
    """Reader and buffers of one thread; the function writes a unit and counts its pixels."""
    with open_raster(job.source.path) as opened, np.errstate(all="ignore"):
        reader = BandReader(opened, job.source.profile, job.plan.source_bands, scalings=job.plan.scalings)
        colorizer = colorizer_for(job.plan, opened, tile_yx=job.tiff.layout.tile_yx)
        write_tile = _tile_writer(job, colorizer, reader)
        exported = job.plan.window_of(job.source.profile)
        origin = exported[0].start, exported[1].start

        def write_unit(unit: Window) -> _PixelCount:
            clipped_before = colorizer.clipped_px
            tiles = [
                (place_yx, part, _inside(job.plan, shifted(part, origin)))
                for place_yx, part in tiles_within(unit, job.tiff.layout.tile_yx)
            ]
            if not any(inside is None or inside.any() for _, _, inside in tiles):
                for place_yx, _, _ in tiles:
                    job.tiff.put_blank(job.image, place_yx)
                return _PixelCount()
            block = reader.read(shifted(unit, origin))
            top_left = -unit[0].start, -unit[1].start
            valid_px = sum(
                write_tile(block, shifted(part, top_left), place_yx, inside)
                for place_yx, part, inside in tiles
            )
            return _PixelCount(valid_px, colorizer.clipped_px - clipped_before)

        yield write_unit


def _inside(plan: ExportPlan, window: Window) -> Flags | None:
    """Flags of the pixels within the cutline; None without one."""
    return plan.area.inside.inside(window) if plan.area and plan.area.inside else None


def _tile_writer(
    job: _ExportJob, colorizer: Colorizer, reader: BandReader
) -> Callable[[PixelBlock, Window, Shape, Flags | None], int]:
    """A function that computes, colours and stores one tile and returns its number of valid pixels."""
    tile_yx = job.tiff.layout.tile_yx
    compute = computation_for(job.plan)
    tile = colorizer.layout.new_tile()

    def write_chunk(chunk: Chunk, cols: int) -> int:
        values = compute(chunk.planes, chunk.valid) if chunk.valid.any() else ()
        valid_px = int(np.count_nonzero(chunk.valid))
        if valid_px:
            colorizer.paint(values, chunk.valid, tile, rows=chunk.rows, cols=cols)
        else:
            tile[chunk.rows, :cols] = colorizer.layout.blank
        return valid_px

    def write_tile(block: PixelBlock, part: Window, place_yx: Shape, inside: Flags | None) -> int:
        rows, cols = shape_of(part)
        if (rows, cols) != tile_yx:
            tile.fill(colorizer.layout.blank)
        valid_px = 0
        for chunk in reader.chunks(block, part):
            if inside is not None:
                chunk.valid[:] &= inside[chunk.rows].reshape(-1)
            valid_px += write_chunk(chunk, cols)
        if valid_px:
            job.tiff.put(job.image, place_yx, tile)
        else:
            job.tiff.put_blank(job.image, place_yx)
        return valid_px

    return write_tile


def _colour_table(colormap: str) -> bytes:
    """Colour table for the indices of `palette_entries`; entry 0 means no value and is black."""
    colours = np.zeros((256, 3), np.uint8)
    source = np.frombuffer(colours_of(colormap), np.uint8).reshape(256, 3)
    # From the highest down: of the two colours that share entry 1, the lower one must win.
    for colour, entry in reversed(list(enumerate(palette_entries()[:NOTHING]))):
        colours[entry] = source[colour]
    return colours.tobytes()
