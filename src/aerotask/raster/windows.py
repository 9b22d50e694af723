"""Windows of a raster, planned as slices of rows and columns, without pixels.

A *unit* is the part that one thread reads, computes and writes at a time: whole output tiles and, where possible,
whole blocks of the source, so that no block is decoded twice.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

Window = tuple[slice, slice]
"""Rows and columns; both slices have a start and a stop and stay within the raster."""

Shape = tuple[int, int]
"""Rows and columns."""

UNIT_BYTES = 24 * 1024 * 1024
"""Maximum bytes of source pixels that one thread holds, unless a single tile is larger."""


def windows(shape_yx: Shape, step_yx: Shape) -> Iterator[Window]:
    """Windows of `step_yx` that cover the raster, row by row; those at the right and bottom edges are smaller."""
    for top in range(0, shape_yx[0], step_yx[0]):
        for left in range(0, shape_yx[1], step_yx[1]):
            yield (
                slice(top, min(top + step_yx[0], shape_yx[0])),
                slice(left, min(left + step_yx[1], shape_yx[1])),
            )


def grid_shape(shape_yx: Shape, step_yx: Shape) -> Shape:
    """The number of windows of `step_yx`, down and across."""
    return -(-shape_yx[0] // step_yx[0]), -(-shape_yx[1] // step_yx[1])


def shape_of(window: Window) -> Shape:
    """The window's rows and columns."""
    rows, cols = window
    return rows.stop - rows.start, cols.stop - cols.start


def shifted(window: Window, by_yx: Shape) -> Window:
    """The window moved down and right."""
    (rows, cols), (down, right) = window, by_yx
    return slice(rows.start + down, rows.stop + down), slice(cols.start + right, cols.stop + right)


def tiles_within(window: Window, tile_yx: Shape) -> Iterator[tuple[Shape, Window]]:
    """The tiles that a unit covers: row and column in the grid of tiles, and window in the raster."""
    top, left = window[0].start, window[1].start
    for rows, cols in windows(shape_of(window), tile_yx):
        in_raster = (
            slice(top + rows.start, top + rows.stop),
            slice(left + cols.start, left + cols.stop),
        )
        yield (in_raster[0].start // tile_yx[0], in_raster[1].start // tile_yx[1]), in_raster


def unit_shape(
    shape_yx: Shape, *, tile_yx: Shape, block_yx: Shape, bytes_per_px: int, unit_bytes: int = UNIT_BYTES
) -> Shape:
    """The shape of the units for a source with blocks of `block_yx`, in whole tiles.

    The first that fits into `unit_bytes` of: whole blocks both ways; one tile high and whole blocks across (strips:
    the whole width); one tile high and as many tiles across as fit, which decodes blocks more than once.
    """
    aligned_y = _aligned(shape_yx[0], tile_yx[0], block_yx[0])
    aligned_x = _aligned(shape_yx[1], tile_yx[1], block_yx[1])
    for rows, cols in ((aligned_y, aligned_x), (tile_yx[0], aligned_x)):
        if rows * cols * bytes_per_px <= unit_bytes:
            return rows, cols
    fitting = unit_bytes // (tile_yx[0] * tile_yx[1] * bytes_per_px)
    return tile_yx[0], max(fitting, 1) * tile_yx[1]


def _aligned(size: int, tile: int, block: int) -> int:
    """The smallest multiple of the tile that ends where a block ends, or the first that covers everything."""
    return min(math.lcm(tile, block), -(-size // tile) * tile)
