"""Overview selection and read cost of an image, planned from the raster's header alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aerotask.raster.profile import RasterProfile

MAX_READ_BYTES = 128 * 1024 * 1024
"""Limit of source pixels decoded for one image; beyond it, blocks spread over the image stand for the others."""
SAMPLE_BYTES = 48 * 1024 * 1024
"""Size of these blocks together, decoded: the first picture of a large raster comes in a fraction of a second."""
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
