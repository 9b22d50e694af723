"""Pyramid plan: levels of detail and chips of a comparison, as plain numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

from aerotask.raster.windows import Shape

CHIP_PX = 384
"""Side of a chip; with its surroundings and derived arrays, a thread holds some 12 MiB."""
MOST_CHIPS = 36
MOST_PATCHES = 400
STEP = 5
"""Maximum increase of detail from one level to the next."""
PATCH_PX = 64
SMALL_PATCH_PX = 32
SMALL_SIDE_PX = 320
"""Overlaps with a shorter side than this use smaller patches, to have enough of them."""


@dataclass(frozen=True, slots=True)
class PixelBox:
    """Box of the source's pixels, `right` and `bottom` exclusive."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        """Columns."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """Rows."""
        return self.bottom - self.top


@dataclass(frozen=True, slots=True)
class Chip:
    """Chip of the source: its first pixel, and its size in pixels of the level."""

    left: int
    top: int
    shape_yx: Shape


def level_factors(first_factor: float, finest: int) -> tuple[int, ...]:
    """The size of each level's pixels in pixels of the source, from the first level to the finest."""
    factors = [max(round(first_factor), finest)]
    while factors[-1] > finest:
        steps_left = math.ceil(math.log(factors[-1] / finest, STEP))
        ratio = (factors[-1] / finest) ** (1 / steps_left)
        factors.append(max(round(factors[-1] / ratio), finest) if steps_left > 1 else finest)
    return tuple(factors)


def plan_chips(box: PixelBox, factor: int) -> tuple[Chip, ...]:
    """Chips of the box at a level: all of it if that is at most `MOST_CHIPS`, else evenly spread ones."""
    cols, rows = box.width // factor, box.height // factor
    if cols < 1 or rows < 1:
        return ()
    across, down = -(-cols // CHIP_PX), -(-rows // CHIP_PX)
    if across * down > MOST_CHIPS:
        across = min(max(round(math.sqrt(MOST_CHIPS * cols / rows)), 1), MOST_CHIPS, across)
        down = min(max(MOST_CHIPS // across, 1), down)
    return tuple(
        Chip(box.left + left * factor, box.top + top * factor, (height, width))
        for top, height in _spread(rows, down)
        for left, width in _spread(cols, across)
    )


def patch_side(box: PixelBox, factor: int) -> int:
    """The side of the patches for an overlap."""
    return PATCH_PX if min(box.width, box.height) // factor >= SMALL_SIDE_PX else SMALL_PATCH_PX


def _spread(size: int, count: int) -> list[tuple[int, int]]:
    """Start and length of `count` chips of at most `CHIP_PX`, in the middles of equal shares of `size`."""
    chips = []
    for number in range(count):
        start, end = number * size // count, (number + 1) * size // count
        length = min(end - start, CHIP_PX)
        chips.append((start + (end - start - length) // 2, length))
    return chips
