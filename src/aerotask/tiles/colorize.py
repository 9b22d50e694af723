"""Colours of tiles and thumbnails: from read pixels to RGBA, by the computation of raster-export."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rio_tiler.models import ImageData

from aerotask.raster.export.colorize import colorizer_for, own_colours
from aerotask.raster.export.compute import computation_for
from aerotask.raster.export.plan import ExportPlan, make_plan
from aerotask.raster.pixels import OPAQUE, BandReader, PixelBlock
from aerotask.raster.profile import RasterProfile
from aerotask.tiles.dataset_cache import OpenRaster
from aerotask.tiles.render_info import Plain, RenderInfo
from aerotask.tiles.style import Style

Rgba = NDArray[np.uint8]
"""(rows, cols, 4)"""

Colours = Mapping[int, tuple[int, int, int, int]]
_PLAIN_RGB = ("red", "green", "blue")


@dataclass(frozen=True, slots=True)
class DrawPlan:
    """Bands to read, with an export plan whose ranges are fixed or the raster's own colours."""

    bands: tuple[int, ...]
    export_plan: ExportPlan | None = None
    plain: Plain | None = None


def make_draw_plan(info: RenderInfo, style: Style) -> DrawPlan:
    """The draw plan for a raster in a style.

    Raises:
        InvalidInput: the raster doesn't have what the style needs.
    """
    if info.plain:
        return DrawPlan(plain_bands(info.profile, info.plain), plain=info.plain)
    export_plan = replace(make_plan(style.options(), info.profile), ranges=info.ranges)
    return DrawPlan(export_plan.source_bands, export_plan)


def detect_plain(profile: RasterProfile) -> Plain | None:
    """The kind of a raster that already is an image; None for a raster of measurements."""
    data = [profile.bands[band - 1] for band in profile.data_bands]
    if any(band.dtype != "uint8" for band in data):
        return None
    if [band.colour for band in data] == ["palette"]:
        return "palette"
    return "rgb" if set(_PLAIN_RGB) <= {band.colour for band in data} else None


def plain_bands(profile: RasterProfile, plain: Plain) -> tuple[int, ...]:
    """The bands (from 1) of a raster that is an image: red, green and blue, or the one with the colour table."""
    if plain == "palette":
        return profile.data_bands[:1]
    colours = [band.colour for band in profile.bands]
    return tuple(colours.index(colour) + 1 for colour in _PLAIN_RGB)


def bands_to_read(plan: DrawPlan, profile: RasterProfile) -> list[int]:
    """The bands to read from the file: those of the plan, then its alpha band, if any."""
    return [*plan.bands, *([profile.alpha_band] if profile.alpha_band else [])]


def colorize(block: PixelBlock, plan: DrawPlan, raster: OpenRaster) -> Rgba:
    """Colours of pixels of the plan's bands; invalid pixels are 0, 0, 0, 0."""
    if plan.export_plan is not None:
        return _colorize_export(block, plan.export_plan, raster)
    if plan.plain == "palette":
        return _colorize_palette(block, raster)
    return _colorize_rgb(block, raster, plan.bands)


def pixel_block(image: ImageData, profile: RasterProfile) -> PixelBlock:
    """The pixels of an image that was read with `bands_to_read`."""
    planes: NDArray[Any] = np.ma.getdata(image.array)
    if profile.alpha_band:
        return PixelBlock(planes[:-1], planes[-1])
    masked: NDArray[np.bool_] = np.ma.getmaskarray(image.array)
    return PixelBlock(planes, np.logical_not(masked.any(axis=0)).view(np.uint8))


def _colorize_export(block: PixelBlock, export_plan: ExportPlan, raster: OpenRaster) -> Rgba:
    shape: tuple[int, int] = block.planes.shape[1:]
    colorizer = colorizer_for(export_plan, raster.source, tile_yx=shape)
    compute = computation_for(export_plan)
    rgba = np.zeros(shape, np.uint32)
    # The plan is of the original raster, whose scales its COG need not have.
    reader = BandReader(
        raster.source, raster.profile, export_plan.source_bands, scalings=export_plan.scalings
    )
    with np.errstate(all="ignore"):
        for chunk in reader.chunks(block, (slice(0, shape[0]), slice(0, shape[1]))):
            if chunk.valid.any():
                values = compute(chunk.planes, chunk.valid)
                colorizer.paint(values, chunk.valid, rgba, rows=chunk.rows, cols=shape[1])
    return rgba.view(np.uint8).reshape(*shape, 4)


def _colorize_rgb(block: PixelBlock, raster: OpenRaster, bands: tuple[int, ...]) -> Rgba:
    alpha: Any = block.mask
    if not raster.profile.alpha_band:
        alpha = _valid_mask(block, raster, bands).view(np.uint8) * np.uint8(OPAQUE)
    rgba: Rgba = np.dstack([*block.planes, alpha])
    rgba[alpha == 0] = 0
    return rgba


def _colorize_palette(block: PixelBlock, raster: OpenRaster) -> Rgba:
    rgba: Rgba = own_colours(raster.source, 1)[block.planes[0]]
    rgba[~_valid_mask(block, raster, (1,))] = 0
    return rgba


def _valid_mask(block: PixelBlock, raster: OpenRaster, bands: tuple[int, ...]) -> NDArray[np.bool_]:
    """Mask of valid pixels (rows, cols), by the rules of the export."""
    shape: tuple[int, int] = block.planes.shape[1:]
    valid = np.zeros(shape, np.bool_)
    reader = BandReader(raster.source, raster.profile, bands)
    for chunk in reader.chunks(block, (slice(0, shape[0]), slice(0, shape[1]))):
        valid[chunk.rows] = chunk.valid.reshape(-1, shape[1])
    return valid
