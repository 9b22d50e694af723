"""From pixels that were read, warped or thinned, to red, green, blue and alpha: by raster-export's own computation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rio_tiler.models import ImageData

from aerotask.raster.export.colorize import colorizer_for
from aerotask.raster.export.compute import computation_for
from aerotask.raster.export.plan import ExportPlan, make_plan
from aerotask.raster.pixels import BandReader, PixelBlock
from aerotask.raster.profile import RasterProfile
from aerotask.tiles.dataset_cache import OpenRaster
from aerotask.tiles.render_info import Plain, RenderInfo
from aerotask.tiles.style import Style

Rgba = NDArray[np.uint8]
"""(rows, cols, 4)"""

Colours = Mapping[int, tuple[int, int, int, int]]
OPAQUE = 255
_PLAIN_RGB = ("red", "green", "blue")


@dataclass(frozen=True, slots=True)
class DrawPlan:
    """What is to be drawn: by a recipe whose ranges are settled, or the raster's own colours."""

    bands: tuple[int, ...]
    recipe: ExportPlan | None = None
    plain: Plain | None = None


def drawing_of(look: RenderInfo, style: Style) -> DrawPlan:
    """What a style draws of a raster with that look.

    Raises:
        InvalidInput: the raster can't give what the style asks for.
    """
    if look.plain:
        return DrawPlan(plain_bands(look.profile, look.plain), plain=look.plain)
    recipe = replace(make_plan(style.options(), look.profile), ranges=look.ranges)
    return DrawPlan(recipe.source_bands, recipe)


def plain_form(profile: RasterProfile) -> Plain | None:
    """How a raster that already is a picture shows itself; None for one that holds measurements."""
    data = [profile.bands[band - 1] for band in profile.data_bands]
    if any(band.dtype != "uint8" for band in data):
        return None
    if [band.colour for band in data] == ["palette"]:
        return "palette"
    return "rgb" if set(_PLAIN_RGB) <= {band.colour for band in data} else None


def plain_bands(profile: RasterProfile, plain: Plain) -> tuple[int, ...]:
    """The bands (counted from 1) of a raster that is a picture: red, green and blue, or the one with the table."""
    if plain == "palette":
        return profile.data_bands[:1]
    colours = [band.colour for band in profile.bands]
    return tuple(colours.index(colour) + 1 for colour in _PLAIN_RGB)


def indexes_to_read(drawing: DrawPlan, profile: RasterProfile) -> list[int]:
    """The bands to read of the file that is drawn from: the drawing's, and the file's alpha band behind them."""
    return [*drawing.bands, *([profile.alpha_band] if profile.alpha_band else [])]


def draw(image: ImageData, drawing: DrawPlan, raster: OpenRaster) -> Rgba:
    """The picture of an image read with `indexes_to_read`; what doesn't count is 0, 0, 0, 0."""
    block = _block(image, raster.profile)
    if drawing.recipe is not None:
        return _draw_recipe(block, drawing.recipe, raster)
    if drawing.plain == "palette":
        return _draw_palette(block, raster)
    return _draw_rgb(block, raster, drawing.bands)


def _block(image: ImageData, profile: RasterProfile) -> PixelBlock:
    planes: NDArray[Any] = np.ma.getdata(image.array)
    if profile.alpha_band:
        return PixelBlock(planes[:-1], planes[-1])
    masked: NDArray[np.bool_] = np.ma.getmaskarray(image.array)
    return PixelBlock(planes, np.logical_not(masked.any(axis=0)).view(np.uint8))


def _draw_recipe(block: PixelBlock, recipe: ExportPlan, raster: OpenRaster) -> Rgba:
    shape: tuple[int, int] = block.planes.shape[1:]
    painter = colorizer_for(recipe, tile_yx=shape)
    compute = computation_for(recipe)
    picture = np.zeros(shape, np.uint32)
    reader = BandReader(raster.source, raster.profile, recipe.source_bands)
    with np.errstate(all="ignore"):
        for chunk in reader.chunks(block, (slice(0, shape[0]), slice(0, shape[1]))):
            if chunk.valid.any():
                values = compute(chunk.planes, chunk.valid)
                painter.paint(values, chunk.valid, picture, rows=chunk.rows, cols=shape[1])
    return picture.view(np.uint8).reshape(*shape, 4)


def _draw_rgb(block: PixelBlock, raster: OpenRaster, bands: tuple[int, ...]) -> Rgba:
    alpha: Any = block.mask
    if not raster.profile.alpha_band:
        alpha = _counted(block, raster, bands).view(np.uint8) * np.uint8(OPAQUE)
    picture: Rgba = np.dstack([*block.planes, alpha])
    picture[alpha == 0] = 0
    return picture


def _draw_palette(block: PixelBlock, raster: OpenRaster) -> Rgba:
    table = np.zeros((256, 4), np.uint8)
    for entry, colour in raster.source.colormap(1).items():
        table[entry] = colour
    picture: Rgba = table[block.planes[0]]
    picture[~_counted(block, raster, (1,))] = 0
    picture[picture[..., 3] == 0] = 0
    return picture


def _counted(block: PixelBlock, raster: OpenRaster, bands: tuple[int, ...]) -> NDArray[np.bool_]:
    """Which pixels count (rows, cols), by the rules of the export."""
    shape: tuple[int, int] = block.planes.shape[1:]
    counted = np.zeros(shape, np.bool_)
    reader = BandReader(raster.source, raster.profile, bands)
    for chunk in reader.chunks(block, (slice(0, shape[0]), slice(0, shape[1]))):
        counted[chunk.rows] = chunk.valid.reshape(-1, shape[1])
    return counted
