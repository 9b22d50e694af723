"""Sample for estimating the range of a raster's values: all pixels, an overview, or blocks spread over it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from aerotask.raster.profile import RasterProfile
from aerotask.raster.windows import Shape, Window, grid_shape, shape_of, shifted, windows

SAMPLE_PX = 1024 * 1024
"""Approximate size of a sample; a raster with no more pixels is read whole."""
FEWEST_OVERVIEW_PX = 128 * 1024
DECODED_PX = 16 * SAMPLE_PX
"""Approximate number of pixels decoded when blocks are sampled; of these, `SAMPLE_PX` are used."""
FEWEST_BLOCKS, MOST_BLOCKS = 64, 1024
_READ_YX = (512, 512)


@dataclass(frozen=True, slots=True)
class Sample:
    """Windows to read, with every `stride`-th pixel in both directions; of an overview, if a level is given."""

    windows: tuple[Window, ...]
    stride: int
    overview_level: int | None
    description: str


def plan_sample(profile: RasterProfile, window: Window | None = None) -> Sample:
    """Choose the sample from the profile alone, so that the same raster always gives the same range.

    With a window the sample is taken from that part, and never from an overview.
    """
    part = window or _whole(profile)
    if _area(shape_of(part)) <= SAMPLE_PX:
        return Sample(_all_windows(part), 1, None, "all pixels")
    for level, (width, height) in enumerate(profile.overview_sizes):
        if window is None and FEWEST_OVERVIEW_PX <= width * height <= SAMPLE_PX:
            whole = tuple(windows((height, width), _READ_YX))
            return Sample(whole, 1, level, f"the overview of {width} × {height} pixels")
    of = "the raster" if window is None else "the area"
    return _spread_blocks(part, (profile.block_size[1], profile.block_size[0]), of)


def plan_thinned(profile: RasterProfile, window: Window | None = None) -> Sample:
    """A thinned sample of the whole raster or window, for those whose sampled blocks are all empty."""
    part = window or _whole(profile)
    stride = math.ceil(math.sqrt(_area(shape_of(part)) / SAMPLE_PX))
    return Sample(_all_windows(part), stride, None, f"one pixel in {stride} down and across")


def _whole(profile: RasterProfile) -> Window:
    return slice(0, profile.height), slice(0, profile.width)


def _all_windows(part: Window) -> tuple[Window, ...]:
    origin = part[0].start, part[1].start
    return tuple(shifted(each, origin) for each in windows(shape_of(part), _READ_YX))


def _spread_blocks(part: Window, block_yx: Shape, of: str) -> Sample:
    """Evenly spread blocks, down and across in proportion to the part's sides."""
    first = (part[0].start // block_yx[0], part[1].start // block_yx[1])
    grid = grid_shape((part[0].stop, part[1].stop), block_yx)
    grid = (grid[0] - first[0], grid[1] - first[1])
    block_px = _area(block_yx)
    block_count = min(max(DECODED_PX // block_px, FEWEST_BLOCKS), MOST_BLOCKS, _area(grid))
    across = min(max(round(math.sqrt(block_count * grid[1] / grid[0])), 1), grid[1], block_count)
    down = min(max(block_count // across, 1), grid[0])
    stride = max(math.ceil(math.sqrt(down * across * block_px / SAMPLE_PX)), 1)
    chosen = tuple(
        _block(
            part,
            block_yx,
            (first[0] + _spread(row, down, grid[0]), first[1] + _spread(col, across, grid[1])),
        )
        for row in range(down)
        for col in range(across)
    )
    return Sample(chosen, stride, None, f"{len(chosen)} blocks spread over {of}")


def _spread(number: int, chosen: int, available: int) -> int:
    """The index of the `number`-th of `chosen` items, in the middle of its equal share of `available` items."""
    return (2 * number + 1) * available // (2 * chosen)


def _block(part: Window, block_yx: Shape, place: Shape) -> Window:
    rows, cols = part
    top, left = place[0] * block_yx[0], place[1] * block_yx[1]
    return (
        slice(max(top, rows.start), min(top + block_yx[0], rows.stop)),
        slice(max(left, cols.start), min(left + block_yx[1], cols.stop)),
    )


def _area(shape: Shape) -> int:
    return shape[0] * shape[1]
