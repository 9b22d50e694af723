"""Rendering of rasters in the children: render info, tiles and thumbnails."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rasterio.transform import from_bounds
from rio_tiler import reader
from rio_tiler.constants import WEB_MERCATOR_TMS
from rio_tiler.types import RIOResampling

from aerotask.domain.errors import InvalidInput
from aerotask.raster.export.plan import make_plan
from aerotask.raster.export.stretch import percentile_stretch
from aerotask.raster.expression.indices import ValueRange
from aerotask.raster.georeference.placement import bounds_deg, placement_of
from aerotask.raster.georeference.side_georeference import SideGeoreference
from aerotask.raster.io import gdal_errors_as_damage
from aerotask.raster.pixel_mapping import TileMapping
from aerotask.raster.pixels import BandReader, SourceFile
from aerotask.tiles.colorize import (
    DrawPlan,
    Rgba,
    bands_to_read,
    colorize,
    detect_plain,
    make_draw_plan,
    pixel_block,
)
from aerotask.tiles.dataset_cache import DatasetCache
from aerotask.tiles.overviews import (
    THUMBNAIL_BYTES,
    TILE_BYTES,
    affordable_level,
    lowest_zoom,
)
from aerotask.tiles.render_info import RenderInfo
from aerotask.tiles.style import Style
from aerotask.tiles.tile_matrix import MAX_ZOOM, TileIndex

RATIO_TOLERANCE = 1.02
"""A tile may read so much more than the lowest zoom is planned by, since its resolution differs a bit from the sampled ones."""


@dataclass(frozen=True, slots=True)
class MapRaster:
    """Raster on a map: the file to read, its render info and style."""

    path: Path
    """The file to read: the COG derivative if there is one, else the original."""
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
    profile = rasters.get(original, side=side).profile
    plain = detect_plain(profile) if style.is_plain else None
    info = RenderInfo(profile, plain, (), None, 0, 0)
    if not plain:
        info = replace(info, ranges=_ranges(SourceFile(original, profile), style))
    tiled = rasters.get(cog)
    with gdal_errors_as_damage():
        try:
            bounds = bounds_deg(placement_of(rasters.get(original, side=side).source))
            resolution = rasters.mapper(cog, side).map_resolution()
        except InvalidInput as error:
            return replace(info, unplaced_because=error.message)
        plan = make_draw_plan(info, style)
    return replace(
        info,
        bounds=bounds,
        min_zoom=lowest_zoom(tiled.profile, resolution.finest_m, bands_to_read(plan, tiled.profile)),
        max_zoom=min(int(WEB_MERCATOR_TMS.zoom_for_res(resolution.typical_m)), MAX_ZOOM),
    )


def draw_tile(rasters: DatasetCache, raster: MapRaster, tile: TileIndex, *, size_px: int) -> Rgba:
    """Map tile, resampled by nearest neighbour; transparent outside the raster.

    Raises:
        InvalidInput: the file can't be read, or too much of it would have to be read (`build-first`).
    """
    plan = make_draw_plan(raster.info, raster.style)
    whole = rasters.get(raster.path)
    drawn = np.zeros((size_px, size_px, 4), np.uint8)
    with gdal_errors_as_damage():
        bands = bands_to_read(plan, whole.profile)
        mapping = TileMapping.plan(
            rasters.mapper(raster.path, raster.info.profile.side_georeference),
            from_bounds(*tile.bounds_m(), size_px, size_px),
            (size_px, size_px),
        )
        if mapping is None:
            return drawn
        level = affordable_level(
            whole.profile, mapping.ratio, bands, size_px**2, max_bytes=round(TILE_BYTES * RATIO_TOLERANCE)
        )
        overview = rasters.get(raster.path, overview_level=level.overview)
        nearest = mapping.nearest(overview.source.shape)
        if nearest.inside.any():
            block = BandReader(overview.source, whole.profile, plan.bands).read_nearest(nearest)
            drawn[nearest.part] = colorize(block, plan, overview)
    return drawn


def draw_thumbnail(rasters: DatasetCache, original: Path, cog: Path, *, size_px: int) -> Rgba:
    """Thumbnail of the whole raster in its own grid, its longer side at most `size_px`, read from the file at `cog`.

    Raises:
        InvalidInput: the file can't be read, or too much of it would have to be read (`build-first`).
    """
    profile = rasters.get(original).profile
    info = RenderInfo(profile, detect_plain(profile), (), None, 0, 0)
    if not info.plain:
        info = replace(info, ranges=_ranges(SourceFile(original, profile), Style()))
    plan = make_draw_plan(info, Style())
    with gdal_errors_as_damage():
        return _draw_whole(rasters, cog, plan, size_px=size_px)


def _draw_whole(rasters: DatasetCache, path: Path, plan: DrawPlan, *, size_px: int) -> Rgba:
    profile = rasters.get(path).profile
    ratio = max(profile.width, profile.height) / size_px
    rows, cols = (max(round(size / max(ratio, 1)), 1) for size in (profile.height, profile.width))
    bands = bands_to_read(plan, profile)
    level = affordable_level(profile, max(ratio, 1), bands, rows * cols, max_bytes=THUMBNAIL_BYTES)
    raster = rasters.get(path, overview_level=level.overview)
    thinned = plan.plain != "palette" and level.ratio > math.sqrt(2)
    resampling: RIOResampling = "average" if thinned else "nearest"
    image = reader.read(raster.source, indexes=bands, height=rows, width=cols, resampling_method=resampling)
    return colorize(pixel_block(image, profile), plan, raster)


def _ranges(source: SourceFile, style: Style) -> tuple[ValueRange, ...]:
    """The value ranges of an export with this style."""
    export_plan = make_plan(style.options(), source.profile)
    if export_plan.ranges is not None:
        return export_plan.ranges
    return percentile_stretch(source, export_plan, threads=1, on_progress=lambda _share: None).ranges
