"""Rendering of rasters in the children: render info, tiles and thumbnails."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rasterio.transform import from_bounds
from rio_tiler import reader
from rio_tiler.constants import WEB_MERCATOR_TMS

from aerotask.domain.errors import InvalidInput
from aerotask.raster.export.plan import make_plan
from aerotask.raster.export.stretch import percentile_stretch
from aerotask.raster.expression.indices import ValueRange
from aerotask.raster.georeference.placement import bounds_deg, placement_of
from aerotask.raster.georeference.side_georeference import SideGeoreference
from aerotask.raster.io import block_bytes, gdal_errors_as_damage
from aerotask.raster.pixel_mapping import NearestPixels, TileMapping
from aerotask.raster.pixels import BandReader, PixelBlock, SourceFile
from aerotask.tiles.block_sample import sampled, whole
from aerotask.tiles.colorize import (
    DrawPlan,
    Rgba,
    bands_to_read,
    colorize,
    detect_plain,
    make_draw_plan,
    pixel_block,
)
from aerotask.tiles.dataset_cache import DatasetCache, OpenRaster, RasterFiles
from aerotask.tiles.overviews import MAX_READ_BYTES, SAMPLE_BYTES, estimate_read_bytes, select_level
from aerotask.tiles.render_info import RenderInfo
from aerotask.tiles.style import Style
from aerotask.tiles.tile_matrix import MAX_ZOOM, TileIndex


@dataclass(frozen=True, slots=True)
class MapRaster:
    """Raster on a map: the files to read, its render info and style."""

    files: RasterFiles
    info: RenderInfo
    style: Style


def read_render_info(
    rasters: DatasetCache, original: Path, cog: Path, style: Style, side: SideGeoreference | None = None
) -> RenderInfo:
    """The render info of the raster at `original`, whose tiles are read from the file at `cog`.

    `side` is the georeference of the raster's side files, if its own tags have none.

    Raises:
        InvalidInput: a file can't be read, or the raster doesn't have what the style needs.
    """
    info = _info_off_map(rasters, original, style, side)
    with gdal_errors_as_damage():
        try:
            bounds = bounds_deg(placement_of(rasters.get(original, side=side).source))
            resolution = rasters.mapper(cog, side).map_resolution()
        except InvalidInput as error:
            return replace(info, unplaced_because=error.message)
        make_draw_plan(info, style)
    return replace(
        info,
        bounds=bounds,
        max_zoom=min(int(WEB_MERCATOR_TMS.zoom_for_res(resolution.typical_m)), MAX_ZOOM),
    )


def draw_tile(rasters: DatasetCache, raster: MapRaster, tile: TileIndex, *, size_px: int) -> Rgba:
    """Map tile, resampled by nearest neighbour; transparent outside the raster.

    Raises:
        InvalidInput: a file can't be read.
    """
    plan = make_draw_plan(raster.info, raster.style)
    profile = rasters.profile(raster.files)
    drawn = np.zeros((size_px, size_px, 4), np.uint8)
    with gdal_errors_as_damage():
        mapping = TileMapping.plan(
            rasters.mapper(raster.files.image, raster.info.profile.side_georeference),
            from_bounds(*tile.bounds_m(), size_px, size_px),
            (size_px, size_px),
        )
        if mapping is None:
            return drawn
        level = select_level(profile, mapping.ratio)
        overview = rasters.level(raster.files, level.overview)
        nearest = mapping.nearest(overview.source.shape)
        if nearest.inside.any():
            read_bytes = estimate_read_bytes(profile, level, bands_to_read(plan, profile), size_px**2)
            block = _read(overview, plan, nearest, read_bytes)
            drawn[nearest.part] = colorize(block, plan, overview)
    return drawn


def _read(raster: OpenRaster, plan: DrawPlan, nearest: NearestPixels, read_bytes: int) -> PixelBlock:
    """The pixels; in a raster too large for that, those of some of its blocks."""
    reader = BandReader(raster.source, raster.profile, plan.bands)
    if read_bytes <= MAX_READ_BYTES:
        return reader.read_nearest(nearest)
    source = raster.source
    bytes_per_block = block_bytes(source)
    if source.profile.get("interleave") != "pixel":
        bytes_per_block *= len(bands_to_read(plan, raster.profile))
    max_blocks = max(SAMPLE_BYTES // bytes_per_block, 1)
    return reader.read_blocks(sampled(nearest, source.block_shapes[0], max_blocks=max_blocks))


def draw_thumbnail(
    rasters: DatasetCache, original: Path, files: RasterFiles, *, info: RenderInfo | None = None, size_px: int
) -> Rgba:
    """Thumbnail of the whole raster in its own grid, its longer side at most `size_px`.

    `info` is its render info in the plain style, if it is known.

    Raises:
        InvalidInput: a file can't be read.
    """
    plan = make_draw_plan(info or _info_off_map(rasters, original, Style()), Style())
    with gdal_errors_as_damage():
        return _draw_whole(rasters, files, plan, size_px=size_px)


def _info_off_map(
    rasters: DatasetCache, original: Path, style: Style, side: SideGeoreference | None = None
) -> RenderInfo:
    """The render info without the raster's place on the map."""
    profile = rasters.get(original, side=side).profile
    plain = detect_plain(profile) if style.is_plain else None
    ranges = () if plain else _ranges(SourceFile(original, profile), style)
    return RenderInfo(profile, plain, ranges, None, 0)


def _draw_whole(rasters: DatasetCache, files: RasterFiles, plan: DrawPlan, *, size_px: int) -> Rgba:
    profile = rasters.profile(files)
    ratio = max(profile.width, profile.height) / size_px
    rows, cols = (max(round(size / max(ratio, 1)), 1) for size in (profile.height, profile.width))
    bands = bands_to_read(plan, profile)
    level = select_level(profile, max(ratio, 1))
    raster = rasters.level(files, level.overview)
    read_bytes = estimate_read_bytes(profile, level, bands, rows * cols)
    thinned = plan.plain != "palette" and level.ratio > math.sqrt(2)
    if not thinned or read_bytes > MAX_READ_BYTES:
        nearest = whole(raster.source.shape, (rows, cols))
        return colorize(_read(raster, plan, nearest, read_bytes), plan, raster)
    image = reader.read(raster.source, indexes=bands, height=rows, width=cols, resampling_method="average")
    return colorize(pixel_block(image, profile), plan, raster)


def _ranges(source: SourceFile, style: Style) -> tuple[ValueRange, ...]:
    """The value ranges of an export with this style."""
    export_plan = make_plan(style.options(), source.profile)
    if export_plan.ranges is not None:
        return export_plan.ranges
    return percentile_stretch(source, export_plan, threads=1, on_progress=lambda _share: None).ranges
