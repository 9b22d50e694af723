"""Sample of a large raster for an image: blocks spread over it, of which the nearest pixels stand for those not read."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from aerotask.raster.pixel_mapping import NearestPixels
from aerotask.raster.windows import Shape

Indexes = NDArray[np.intp]


def sampled(nearest: NearestPixels, block_yx: Shape, *, max_blocks: int) -> NearestPixels:
    """The pixels, moved into at most `max_blocks` of the blocks that hold them; as they are if these aren't more.

    Each moves to the nearest row and column of a chosen block. The blocks are spread evenly, down and across in
    proportion.
    """
    if not nearest.inside.any():
        return nearest
    down, across = (
        np.unique(indexes[nearest.inside] // block)
        for indexes, block in zip((nearest.rows, nearest.cols), block_yx, strict=True)
    )
    if len(down) * len(across) <= max_blocks:
        return nearest
    across_count = min(
        max(round(math.sqrt(max_blocks * len(across) / len(down))), 1), len(across), max_blocks
    )
    down_count = min(max(max_blocks // across_count, 1), len(down))
    return replace(
        nearest,
        rows=_moved(nearest.rows, _spread(down, down_count), block_yx[0]),
        cols=_moved(nearest.cols, _spread(across, across_count), block_yx[1]),
    )


def whole(shape_yx: Shape, image_yx: Shape) -> NearestPixels:
    """The nearest pixel of a raster for each pixel of an image of all of it."""
    rows, cols = (
        ((2 * np.arange(image) + 1) * size // (2 * image)).astype(np.intp)
        for size, image in zip(shape_yx, image_yx, strict=True)
    )
    return NearestPixels(
        (slice(0, image_yx[0]), slice(0, image_yx[1])),
        np.broadcast_to(rows[:, np.newaxis], image_yx),
        np.broadcast_to(cols, image_yx),
        np.ones(image_yx, np.bool_),
    )


def _spread(blocks: Indexes, count: int) -> Indexes:
    """So many of the blocks, each in the middle of its equal share."""
    return blocks[(2 * np.arange(count) + 1) * len(blocks) // (2 * count)]


def _moved(indexes: Indexes, blocks: Indexes, block_size: int) -> Indexes:
    """Each index, or the nearest one in any of the blocks."""
    first, last = blocks * block_size, (blocks + 1) * block_size - 1
    nearest = np.searchsorted((last[:-1] + first[1:] + 1) // 2, indexes, side="right")
    return np.clip(indexes, first[nearest], last[nearest])
