"""Which overview a picture is drawn from, and what that costs: pure planning, from the raster's header alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aerotask.domain.errors import InvalidInput
from aerotask.raster.profile import RasterProfile
from aerotask.tiles.tile_matrix import HALF_WORLD_M, MAX_ZOOM

TILE_BYTES = 128 * 1024 * 1024
"""Source pixels that one tile may have decoded; with more, a few viewers would keep all cores busy."""
THUMBNAIL_BYTES = 1024 * 1024 * 1024
"""As above, for what is drawn once for each content."""
TILE_PX = 256
# An overview is taken from where its pixels are at most so much larger than the picture's.
_COARSEST = math.sqrt(2)


@dataclass(frozen=True, slots=True)
class OverviewLevel:
    """The raster itself (None) or one of its overviews, and how many of its pixels lie in one of the picture's."""

    overview: int | None
    ratio: float
    """Along one side."""


def level_for(profile: RasterProfile, ratio: float) -> OverviewLevel:
    """The level to draw from where `ratio` of the raster's pixels, along one side, go into one of the picture."""
    chosen = OverviewLevel(None, ratio)
    for level, (width, _) in enumerate(profile.overview_sizes):
        left = ratio * width / profile.width
        if left * _COARSEST >= 1 and left < chosen.ratio:
            chosen = OverviewLevel(level, left)
    return chosen


def read_bytes(profile: RasterProfile, level: OverviewLevel, bands: Sequence[int], picture_px: int) -> int:
    """About how many bytes of source pixels a picture of so many pixels needs."""
    size = (
        (profile.width, profile.height) if level.overview is None else profile.overview_sizes[level.overview]
    )
    pixels = min(size[0] * size[1], picture_px * level.ratio**2)
    item_bytes = max(np.dtype(profile.bands[band - 1].dtype).itemsize for band in bands)
    return int(pixels * len(bands) * item_bytes)


def affordable_level(
    profile: RasterProfile, ratio: float, bands: Sequence[int], picture_px: int, *, at_most_bytes: int
) -> OverviewLevel:
    """The level to draw from.

    Raises:
        InvalidInput: too much of the raster would have to be read (`build-first`).
    """
    level = level_for(profile, ratio)
    if read_bytes(profile, level, bands, picture_px) > at_most_bytes:
        raise InvalidInput(
            "The raster has no overviews, and this zoom would read too much of it; build its derivatives, or zoom in.",
            code="build-first",
        )
    return level


def lowest_zoom(profile: RasterProfile, resolution_m: float, bands: Sequence[int]) -> int:
    """The lowest zoom from which on every tile can be drawn."""
    for zoom in range(MAX_ZOOM, -1, -1):
        ratio = tile_pixel_m(zoom) / resolution_m
        if read_bytes(profile, level_for(profile, ratio), bands, TILE_PX**2) > TILE_BYTES:
            return zoom + 1
    return 0


def tile_pixel_m(zoom: int) -> float:
    """The side of a tile's pixel, in metres of EPSG:3857."""
    return float(2 * HALF_WORLD_M / 2**zoom / TILE_PX)
