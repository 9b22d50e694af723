"""Overviews: the image at half its size, and again, until one tile holds it; made from the tiles already written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from aerotask.raster.parallel import Worker, run_in_threads
from aerotask.raster.tiff.codec import Tile, TileLayout
from aerotask.raster.tiff.writer import TiffLevel, TiledTiff
from aerotask.raster.windows import Shape

Halve = Callable[[Tile], Tile]
"""Takes a tile, gives it at half its size both ways."""

_EVERY_OTHER_BYTE = np.uint32(0x00FF00FF)


def overview_shapes(shape_yx: Shape, tile_yx: Shape) -> list[Shape]:
    """Rows and columns of each overview, the largest first; none for an image that fits into one tile.

    An image that is down to one row or column isn't halved further, since readers tell the factor by either side.
    """
    shapes: list[Shape] = []
    rows, cols = shape_yx
    while (rows > tile_yx[0] or cols > tile_yx[1]) and min(rows, cols) > 1:
        rows, cols = -(-rows // 2), -(-cols // 2)
        shapes.append((rows, cols))
    return shapes


def write_overviews(
    tiff: TiledTiff,
    image: TiffLevel,
    *,
    threads: int,
    on_progress: Callable[[float], None],
    halve: Halve | None = None,
) -> None:
    """Add all overviews of the image, one after the other; `halve` is by the tiles' layout unless given."""
    halve = halve or halving_for(tiff.layout)
    levels = [tiff.add_level(shape) for shape in overview_shapes(image.shape_yx, tiff.layout.tile_yx)]
    total = sum(level.grid_yx[0] * level.grid_yx[1] for level in levels)
    done = 0

    def count(_place: Shape) -> None:
        nonlocal done
        done += 1
        on_progress(done / total)

    for finer, level in zip([image, *levels], levels, strict=False):
        places = ((row, col) for row in range(level.grid_yx[0]) for col in range(level.grid_yx[1]))
        run_in_threads(places, threads=threads, worker=_halver(tiff, finer, level, halve), on_result=count)


def halving_for(layout: TileLayout) -> Halve:
    """How tiles of that layout are halved: colours and values by their mean, indices by the nearest."""
    if layout.is_float:
        return halve_values
    return halve_rgba if layout.dtype == np.uint32 else halve_indices


def halve_rgba(tile: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """The mean colour of those of each 2 × 2 pixels that aren't transparent; opaque if any of them is.

    Two channels at a time are added up in the two halves of one `uint32`: red and blue, green and alpha.
    """
    red_blue = _sum_of_four(tile & _EVERY_OTHER_BYTE)
    green_alpha = _sum_of_four((tile >> np.uint32(8)) & _EVERY_OTHER_BYTE)
    opaque_px = (green_alpha >> np.uint32(16)) // 255
    # Sums in twelfths, since 12 can be divided by any count: at most 4 · 255 · 3, which 16 bits hold.
    twelfths = np.array([0, 12, 6, 4, 3], np.uint32)[opaque_px]
    means = [
        ((sums * twelfths).view(np.uint16) + np.uint16(6)) // np.uint16(12)
        for sums in (red_blue, green_alpha)
    ]
    halved: NDArray[np.uint32] = means[0].view(np.uint32) | means[1].view(np.uint32) << np.uint32(8)
    return halved


def _sum_of_four(values: NDArray[np.uint32]) -> NDArray[np.uint32]:
    rows: NDArray[np.uint32] = values[0::2] + values[1::2]
    return rows[:, 0::2] + rows[:, 1::2]


def halve_values(tile: NDArray[np.float32]) -> NDArray[np.float32]:
    """The mean of those of each 2 × 2 values that aren't NaN."""
    known = ~np.isnan(tile)
    filled = np.where(known, tile, 0)
    sums = filled[0::2, 0::2] + filled[0::2, 1::2] + filled[1::2, 0::2] + filled[1::2, 1::2]
    ones = known.astype(np.float32)
    counts = ones[0::2, 0::2] + ones[0::2, 1::2] + ones[1::2, 0::2] + ones[1::2, 1::2]
    with np.errstate(invalid="ignore"):
        means: NDArray[np.float32] = np.divide(sums, counts, dtype=np.float32)
    return means


def halve_indices(tile: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The upper left of each 2 × 2 indices: between two entries of a colour table there is no mean."""
    return tile[0::2, 0::2]


def _halver(tiff: TiledTiff, finer: TiffLevel, level: TiffLevel, halve: Halve) -> Worker[Shape, Shape]:
    @contextmanager
    def worker() -> Iterator[Callable[[Shape], Shape]]:
        def halve_into(place: Shape) -> Shape:
            _write_tile(tiff, finer, level, place, halve)
            return place

        yield halve_into

    return worker


def _write_tile(tiff: TiledTiff, finer: TiffLevel, level: TiffLevel, place: Shape, halve: Halve) -> None:
    """Write one tile of an overview from the up to four below it."""
    rows, cols = (size // 2 for size in tiff.layout.tile_yx)
    tile: Tile | None = None
    for down in range(min(2, finer.grid_yx[0] - 2 * place[0])):
        for right in range(min(2, finer.grid_yx[1] - 2 * place[1])):
            below = tiff.get(finer, (2 * place[0] + down, 2 * place[1] + right))
            if below is None:
                continue
            if tile is None:
                tile = tiff.layout.new_tile()
            tile[down * rows : (down + 1) * rows, right * cols : (right + 1) * cols] = halve(below)
    if tile is None:
        tiff.put_blank(level, place)
    else:
        tiff.put(level, place, tile)
