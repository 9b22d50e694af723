"""Overview selection and read cost of an image, planned from the raster's header alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aerotask.domain.errors import InvalidInput
from aerotask.raster.profile import RasterProfile
from aerotask.tiles.tile_matrix import HALF_WORLD_M, MAX_ZOOM

TILE_BYTES = 128 * 1024 * 1024
"""Limit of source pixels decoded for one tile; otherwise a few viewers could keep all cores busy."""
THUMBNAIL_BYTES = 1024 * 1024 * 1024
"""As above for thumbnails, which are rendered only once per content."""
TILE_PX = 256
# An overview may be coarser than the image by at most this factor.
_MAX_UPSAMPLING = math.sqrt(2)


@dataclass(frozen=True, slots=True)
class OverviewLevel:
    """Overview level (None: full resolution), and its pixels per image pixel."""

    overview: int | None
    ratio: float
    """Along one side."""


def select_level(profile: RasterProfile, ratio: float) -> OverviewLevel:
    """The level to read for `ratio` raster pixels per image pixel, along one side."""
    chosen = OverviewLevel(None, ratio)
    for level, (width, _) in enumerate(profile.overview_sizes):
        level_ratio = ratio * width / profile.width
        if level_ratio * _MAX_UPSAMPLING >= 1 and level_ratio < chosen.ratio:
            chosen = OverviewLevel(level, level_ratio)
    return chosen


def estimate_read_bytes(
    profile: RasterProfile, level: OverviewLevel, bands: Sequence[int], image_px: int
) -> int:
    """Estimated bytes of source pixels to decode for an image of `image_px` pixels."""
    size = (
        (profile.width, profile.height) if level.overview is None else profile.overview_sizes[level.overview]
    )
    pixels = min(size[0] * size[1], image_px * level.ratio**2)
    item_bytes = max(np.dtype(profile.bands[band - 1].dtype).itemsize for band in bands)
    return int(pixels * len(bands) * item_bytes)


def affordable_level(
    profile: RasterProfile, ratio: float, bands: Sequence[int], image_px: int, *, max_bytes: int
) -> OverviewLevel:
    """The level to read, if that is affordable.

    Raises:
        InvalidInput: more than `max_bytes` would have to be decoded (`build-first`).
    """
    level = select_level(profile, ratio)
    if estimate_read_bytes(profile, level, bands, image_px) > max_bytes:
        raise InvalidInput(
            "The raster has no overviews, and this image would read too much of it; build its derivatives, or zoom in.",
            code="build-first",
        )
    return level


def lowest_zoom(profile: RasterProfile, resolution_m: float, bands: Sequence[int]) -> int:
    """The lowest zoom from which on all tiles are affordable."""
    for zoom in range(MAX_ZOOM, -1, -1):
        ratio = tile_pixel_m(zoom) / resolution_m
        if estimate_read_bytes(profile, select_level(profile, ratio), bands, TILE_PX**2) > TILE_BYTES:
            return zoom + 1
    return 0


def tile_pixel_m(zoom: int) -> float:
    """The pixel size of a tile, in metres of EPSG:3857."""
    return float(2 * HALF_WORLD_M / 2**zoom / TILE_PX)
