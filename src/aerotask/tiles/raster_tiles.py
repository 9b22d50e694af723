"""What children draw of rasters: looks, tiles and thumbnails, read by rio-tiler."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

from rasterio.crs import CRS
from rasterio.transform import from_bounds
from rio_tiler import reader
from rio_tiler.constants import WEB_MERCATOR_TMS
from rio_tiler.types import RIOResampling

from aerotask.raster.export.plan import make_plan
from aerotask.raster.export.stretch import percentile_stretch
from aerotask.raster.expression.indices import ValueRange
from aerotask.raster.io import gdal_errors_as_damage
from aerotask.raster.pixels import SourceFile
from aerotask.tiles.colorize import (
    DrawPlan,
    Rgba,
    draw,
    drawing_of,
    indexes_to_read,
    plain_form,
)
from aerotask.tiles.dataset_cache import WEB_MERCATOR, DatasetCache, OpenRaster, bounds_deg, resolution_m
from aerotask.tiles.overviews import (
    THUMBNAIL_BYTES,
    TILE_BYTES,
    TILE_PX,
    affordable_level,
    lowest_zoom,
    tile_pixel_m,
)
from aerotask.tiles.render_info import RenderInfo
from aerotask.tiles.style import Style
from aerotask.tiles.tile_matrix import MAX_ZOOM, TileIndex


@dataclass(frozen=True, slots=True)
class MapRaster:
    """A raster to put on a map: the file that is drawn from, and how it is to look."""

    drawn: Path
    look: RenderInfo
    style: Style


def find_look(rasters: DatasetCache, source: Path, drawn: Path, style: Style) -> RenderInfo:
    """The look of the raster at `source`, whose tiles are drawn from the file at `drawn`.

    Raises:
        InvalidInput: one of them can't be read, or can't give what the style asks for.
    """
    profile = rasters.get(source).profile
    plain = plain_form(profile) if style.is_plain else None
    look = RenderInfo(profile, plain, (), None, 0, 0)
    if not plain:
        look = replace(look, ranges=_ranges(SourceFile(source, profile), style))
    shown = rasters.get(drawn)
    with gdal_errors_as_damage():
        bounds = bounds_deg(shown)
        if bounds is None:
            return look
        drawing = drawing_of(look, style)
        pixel_m = resolution_m(shown)
    return replace(
        look,
        bounds=bounds,
        min_zoom=lowest_zoom(shown.profile, pixel_m, indexes_to_read(drawing, shown.profile)),
        max_zoom=min(int(WEB_MERCATOR_TMS.zoom_for_res(pixel_m)), MAX_ZOOM),
    )


def draw_tile(rasters: DatasetCache, subject: MapRaster, at: TileIndex, *, size_px: int) -> Rgba:
    """A tile of the web map, of the nearest pixel each; transparent beside the raster.

    Raises:
        InvalidInput: the file can't be read, or too much of it would have to be (`build-first`).
    """
    drawing = drawing_of(subject.look, subject.style)
    whole = rasters.get(subject.drawn)
    with gdal_errors_as_damage():
        bands = indexes_to_read(drawing, whole.profile)
        ratio = tile_pixel_m(at.z) * TILE_PX / size_px / resolution_m(whole)
        level = affordable_level(whole.profile, ratio, bands, size_px**2, at_most_bytes=TILE_BYTES)
        raster = rasters.get(subject.drawn, overview_level=level.overview)
        grid = {
            "crs": CRS.from_user_input(WEB_MERCATOR),
            "transform": from_bounds(*at.bounds_m(), size_px, size_px),
            "width": size_px,
            "height": size_px,
        }
        image = reader.read(
            raster.source,
            indexes=bands,
            height=size_px,
            width=size_px,
            vrt_options=grid,
            reproject_method="nearest",
        )
        return draw(image, drawing, raster)


def draw_thumbnail(rasters: DatasetCache, path: Path, *, size_px: int) -> Rgba:
    """The whole raster in its own grid, its longer side `size_px` at most.

    Raises:
        InvalidInput: the file can't be read, or too much of it would have to be (`build-first`).
    """
    profile = rasters.get(path).profile
    look = RenderInfo(profile, plain_form(profile), (), None, 0, 0)
    if not look.plain:
        look = replace(look, ranges=_ranges(SourceFile(path, profile), Style()))
    drawing = drawing_of(look, Style())
    with gdal_errors_as_damage():
        return _draw_whole(rasters, path, drawing, size_px=size_px)


def _draw_whole(rasters: DatasetCache, path: Path, drawing: DrawPlan, *, size_px: int) -> Rgba:
    profile = rasters.get(path).profile
    ratio = max(profile.width, profile.height) / size_px
    rows, cols = (max(round(size / max(ratio, 1)), 1) for size in (profile.height, profile.width))
    bands = indexes_to_read(drawing, profile)
    level = affordable_level(profile, max(ratio, 1), bands, rows * cols, at_most_bytes=THUMBNAIL_BYTES)
    raster: OpenRaster = rasters.get(path, overview_level=level.overview)
    thinned = drawing.plain != "palette" and level.ratio > math.sqrt(2)
    resampling: RIOResampling = "average" if thinned else "nearest"
    image = reader.read(raster.source, indexes=bands, height=rows, width=cols, resampling_method=resampling)
    return draw(image, drawing, raster)


def _ranges(source: SourceFile, style: Style) -> tuple[ValueRange, ...]:
    """The ranges that an export with this style would have."""
    recipe = make_plan(style.options(), source.profile)
    if recipe.ranges is not None:
        return recipe.ranges
    return percentile_stretch(source, recipe, threads=1, on_progress=lambda _share: None).ranges
