"""Overviews of a tiled TIFF: halved images, made from the tiles already written, until one tile holds the image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aerotask.raster.parallel import Worker, run_in_threads
from aerotask.raster.pixels import native_nodata
from aerotask.raster.tiff.codec import Tile, TileLayout
from aerotask.raster.tiff.writer import TiffLevel, TiledTiff
from aerotask.raster.windows import Shape

Halve = Callable[[Tile], Tile]
"""Resamples a tile to half its size both ways."""

_EVERY_OTHER_BYTE = np.uint32(0x00FF00FF)


def overview_shapes(shape_yx: Shape, tile_yx: Shape) -> list[Shape]:
    """Rows and columns of each overview, the largest first; none for an image that fits into one tile.

    An image that is down to one row or column isn't halved further, since readers derive the factor from either side.
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
    nodata: float | None = None,
) -> None:
    """Add all overviews of the image, one after the other; samples with the value `nodata` are left out of means."""
    halve = halving_for(tiff.layout, nodata=nodata)
    levels = [tiff.add_level(shape) for shape in overview_shapes(image.shape_yx, tiff.layout.tile_yx)]
    total = sum(level.grid_yx[0] * level.grid_yx[1] for level in levels)
    done = 0

    def count(_tile: Shape) -> None:
        nonlocal done
        done += 1
        on_progress(done / total)

    for finer, level in zip([image, *levels], levels, strict=False):
        tiles = ((row, col) for row in range(level.grid_yx[0]) for col in range(level.grid_yx[1]))
        run_in_threads(tiles, threads=threads, worker=_halver(tiff, finer, level, halve), on_result=count)


def halving_for(layout: TileLayout, *, nodata: float | None = None) -> Halve:
    """The resampling for a layout: the mean of samples and of colours, the nearest of palette indices."""
    if len(layout.shape) == 3:
        return partial(halve_samples, nodata=native_nodata(nodata, layout.dtype))
    return halve_rgba if layout.dtype == np.uint32 else halve_indices


def halve_samples(tile: Tile, *, nodata: Any = None) -> Tile:
    """The mean of each 2 × 2 samples that are neither NaN nor nodata; means of integers are rounded."""
    if tile.dtype.kind == "f":
        return _halve_floats(tile, nodata)
    if nodata is None:
        return _halve_integers(tile)
    return _halve_valid_integers(tile, nodata)


def halve_rgba(tile: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """The mean colour of each 2 × 2 pixels that aren't transparent; opaque if any of them is.

    Two channels at a time are added up in the two halves of one `uint32`: red and blue, green and alpha.
    """
    red_blue = _sum_of_four(tile & _EVERY_OTHER_BYTE, tile.dtype)
    green_alpha = _sum_of_four((tile >> np.uint32(8)) & _EVERY_OTHER_BYTE, tile.dtype)
    opaque_px = (green_alpha >> np.uint32(16)) // 255
    # Sums in twelfths, since 12 can be divided by any count: at most 4 · 255 · 3, which 16 bits hold.
    twelfths = np.array([0, 12, 6, 4, 3], np.uint32)[opaque_px]
    means = [
        ((sums * twelfths).view(np.uint16) + np.uint16(6)) // np.uint16(12)
        for sums in (red_blue, green_alpha)
    ]
    halved: NDArray[np.uint32] = means[0].view(np.uint32) | means[1].view(np.uint32) << np.uint32(8)
    return halved


def halve_indices(tile: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The upper left of each 2 × 2 palette indices: between two entries of a colour table there is no mean."""
    return tile[0::2, 0::2]


def _halve_integers(tile: Tile) -> Tile:
    sums = _sum_of_four(tile, _sum_dtype(tile))
    means: Tile = ((sums + 2) >> 2).astype(tile.dtype)
    return means


def _halve_valid_integers(tile: Tile, nodata: Any) -> Tile:
    valid = tile != nodata
    if valid.all():
        return _halve_integers(tile)
    sum_dtype = _sum_dtype(tile)
    counts = _sum_of_four(valid, sum_dtype)
    sums = _sum_of_four(np.where(valid, tile, tile.dtype.type(0)), sum_dtype)
    divisors = np.maximum(counts, 1)
    means: Tile = ((2 * sums + divisors) // (2 * divisors)).astype(tile.dtype)
    means[counts == 0] = nodata
    return means


def _halve_floats(tile: Tile, nodata: Any) -> Tile:
    valid = ~np.isnan(tile)
    if nodata is not None:
        valid &= tile != nodata
    counts = _sum_of_four(valid, tile.dtype)
    sums = _sum_of_four(np.where(valid, tile, tile.dtype.type(0)), tile.dtype)
    means = np.full(counts.shape, np.nan if nodata is None else nodata, tile.dtype)
    # Infinities of both signs add up to NaN, and sums may overflow: the mean is then not finite either.
    with np.errstate(invalid="ignore", over="ignore"):
        np.divide(sums, counts, out=means, where=counts > 0)
    return means


def _sum_dtype(tile: Tile) -> np.dtype[Any]:
    """A type that holds eight times any value."""
    return np.dtype(np.int32 if tile.dtype.itemsize <= 2 else np.int64)


def _sum_of_four(values: NDArray[Any], sum_dtype: np.dtype[Any]) -> NDArray[Any]:
    with np.errstate(invalid="ignore", over="ignore"):
        rows = np.add(values[0::2], values[1::2], dtype=sum_dtype)
        sums: NDArray[Any] = rows[:, 0::2] + rows[:, 1::2]
    return sums


def _halver(tiff: TiledTiff, finer: TiffLevel, level: TiffLevel, halve: Halve) -> Worker[Shape, Shape]:
    @contextmanager
    def worker() -> Iterator[Callable[[Shape], Shape]]:
        def write_tile(place_yx: Shape) -> Shape:
            _write_tile(tiff, finer, level, place_yx, halve)
            return place_yx

        yield write_tile

    return worker


def _write_tile(tiff: TiledTiff, finer: TiffLevel, level: TiffLevel, place_yx: Shape, halve: Halve) -> None:
    """Write one tile of an overview from the up to four tiles of the finer level that it covers."""
    rows, cols = (size // 2 for size in tiff.layout.tile_yx)
    row, col = place_yx
    tile: Tile | None = None
    for down in range(min(2, finer.grid_yx[0] - 2 * row)):
        for right in range(min(2, finer.grid_yx[1] - 2 * col)):
            finer_tile = tiff.get(finer, (2 * row + down, 2 * col + right))
            if finer_tile is None:
                continue
            if tile is None:
                tile = tiff.layout.new_tile()
            tile[down * rows : (down + 1) * rows, right * cols : (right + 1) * cols] = halve(finer_tile)
    if tile is None:
        tiff.put_blank(level, place_yx)
    else:
        tiff.put(level, place_yx, tile)
