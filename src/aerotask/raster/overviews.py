"""Overviews of a tiled TIFF: halved images, made from the tiles already written, until one tile holds the image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aerotask.raster.parallel import Worker, run_in_threads
from aerotask.raster.pixels import native_nodata
from aerotask.raster.tiff.codec import Tile, TileLayout
from aerotask.raster.tiff.cog_levels import overview_shapes
from aerotask.raster.tiff.writer import TiffLevel, TiledTiff
from aerotask.raster.windows import Shape

Halve = Callable[[Tile, "Tile | None"], Tile]
"""Resamples a tile, of which the mask (if there is one) has the valid pixels, to half its size both ways."""

_EVERY_OTHER_BYTE = np.uint32(0x00FF00FF)


@dataclass(frozen=True, slots=True)
class OverviewRules:
    """Rules by which samples are halved: which of them have no value, and whether there are means at all."""

    nodata: float | None = None
    """Samples with this value are left out of means."""
    alpha: int | None = None
    """The sample (from 0) that is the alpha channel: where it is 0, the other samples are left out."""
    is_nearest: bool = False
    """Classes, of which there is no mean: the upper left of each 2 × 2 pixels is taken."""


def write_overviews(
    tiff: TiledTiff,
    *,
    threads: int,
    on_progress: Callable[[float], None],
    rules: OverviewRules = OverviewRules(),
) -> None:
    """Add overviews of the smallest level so far and of its mask, one after the other."""
    halving = _Halving(tiff, halving_for(tiff.layout, rules))
    first = len(tiff.levels)
    for shape in overview_shapes(tiff.levels[-1].shape_yx, tiff.layout.tile_yx):
        tiff.add_level(shape)
    levels = range(first, len(tiff.levels))
    total = sum(len(tiff.levels[level].offsets) for level in levels)
    done = 0

    def count(_tile: Shape) -> None:
        nonlocal done
        done += 1
        on_progress(done / total)

    for level in levels:
        down, across = tiff.levels[level].grid_yx
        tiles = ((row, col) for row in range(down) for col in range(across))
        run_in_threads(tiles, threads=threads, worker=halving.worker(level), on_result=count)


def halving_for(layout: TileLayout, rules: OverviewRules = OverviewRules()) -> Halve:
    """The resampling for a layout: the mean of samples and of colours, the nearest of palette indices."""
    if len(layout.shape) == 3 and not rules.is_nearest:
        return partial(halve_samples, nodata=native_nodata(rules.nodata, layout.dtype), alpha=rules.alpha)
    halve = halve_rgba if layout.dtype == np.uint32 and not rules.is_nearest else halve_indices
    return lambda tile, _mask: halve(tile)


def halve_samples(
    tile: Tile, mask: Tile | None = None, *, nodata: Any = None, alpha: int | None = None
) -> Tile:
    """The mean of each 2 × 2 samples that are valid: neither NaN nor nodata, transparent or masked.

    Means of integers are rounded. A mean that happens to be the nodata value becomes the nearest other one. Alpha
    itself is the mean of all four, as in GDAL's overviews.
    """
    valid = None if mask is None else mask[..., np.newaxis]
    if alpha is not None:
        opaque = tile[..., alpha, np.newaxis] != 0
        valid = opaque if valid is None else valid & opaque
    means = (
        _halve_floats(tile, valid, nodata) if tile.dtype.kind == "f" else _halve_integers(tile, valid, nodata)
    )
    if alpha is not None:
        means[..., alpha] = _mean_of_four(tile[..., alpha])
    return means


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


def halve_indices(tile: Tile) -> Tile:
    """The upper left of each 2 × 2 palette indices: between two entries of a colour table there is no mean."""
    return tile[0::2, 0::2]


def halve_mask(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Valid where any of the 2 × 2 pixels is, since the mean is that of the valid ones."""
    rows = mask[0::2] | mask[1::2]
    halved: NDArray[np.bool_] = rows[:, 0::2] | rows[:, 1::2]
    return halved


def _mean_of_four(tile: Tile) -> Tile:
    if tile.dtype.kind == "f":
        mean: Tile = _sum_of_four(tile, tile.dtype) / tile.dtype.type(4)
        return mean
    means: Tile = ((_sum_of_four(tile, _sum_dtype(tile)) + 2) >> 2).astype(tile.dtype)
    return means


def _halve_integers(tile: Tile, valid: Tile | None, nodata: Any) -> Tile:
    if nodata is not None:
        valid = tile != nodata if valid is None else valid & (tile != nodata)
    if valid is None or valid.all():
        means = _mean_of_four(tile)
        return means if nodata is None else _or_nodata(nodata, means, np.ones(1))
    sum_dtype = _sum_dtype(tile)
    counts = _sum_of_four(valid, sum_dtype)
    sums = _sum_of_four(np.where(valid, tile, tile.dtype.type(0)), sum_dtype)
    divisors = np.maximum(counts, 1)
    means = ((2 * sums + divisors) // (2 * divisors)).astype(tile.dtype)
    return means if nodata is None else _or_nodata(nodata, means, counts)


def _halve_floats(tile: Tile, valid: Tile | None, nodata: Any) -> Tile:
    valid = ~np.isnan(tile) if valid is None else valid & ~np.isnan(tile)
    if nodata is not None:
        valid &= tile != nodata
    counts = _sum_of_four(valid, tile.dtype)
    sums = _sum_of_four(np.where(valid, tile, tile.dtype.type(0)), tile.dtype)
    means = np.full(counts.shape, np.nan, tile.dtype)
    # Infinities of both signs add up to NaN, and sums may overflow: the mean is then not finite either.
    with np.errstate(invalid="ignore", over="ignore"):
        np.divide(sums, counts, out=means, where=counts > 0)
    return means if nodata is None else _or_nodata(nodata, means, counts)


def _or_nodata(nodata: Any, means: Tile, counts: Tile) -> Tile:
    """The means, and nodata where no sample was valid; a mean that is the nodata value becomes its neighbour."""
    if means.dtype.kind == "f":
        neighbour = np.nextafter(nodata, np.inf, dtype=means.dtype)
    else:
        neighbour = nodata - 1 if nodata == np.iinfo(means.dtype).max else nodata + 1
    means[means == nodata] = neighbour
    np.copyto(means, nodata, where=counts == 0)
    return means


def _sum_dtype(tile: Tile) -> np.dtype[Any]:
    """A type that holds eight times any value."""
    return np.dtype(np.int32 if tile.dtype.itemsize <= 2 else np.int64)


def _sum_of_four(values: NDArray[Any], sum_dtype: np.dtype[Any]) -> NDArray[Any]:
    with np.errstate(invalid="ignore", over="ignore"):
        rows = np.add(values[0::2], values[1::2], dtype=sum_dtype)
        sums: NDArray[Any] = rows[:, 0::2] + rows[:, 1::2]
    return sums


@dataclass(frozen=True, slots=True)
class Quarter:
    """One of the up to four tiles that an overview's tile is made from."""

    place_yx: Shape
    """0 or 1, down and across."""
    tile: Tile | None
    """None if every sample is blank."""
    mask: Tile | None
    """Valid pixels, in an image with a mask; None if there are none."""


def put_halved(
    tiff: TiledTiff, level: int, place_yx: Shape, halve: Halve, quarters: Iterable[Quarter]
) -> None:
    """Write one tile of an overview, and that of its mask, from tiles of the finer level."""
    rows, cols = (size // 2 for size in tiff.layout.tile_yx)
    tile: Tile | None = None
    mask_tile: Tile | None = None
    for quarter in quarters:
        down, right = quarter.place_yx
        part = (slice(down * rows, (down + 1) * rows), slice(right * cols, (right + 1) * cols))
        mask = quarter.mask
        if tiff.mask and mask is None:
            mask = np.zeros(tiff.layout.tile_yx, np.bool_)
        if mask is not None and mask.any():
            mask_tile = np.zeros(tiff.layout.tile_yx, np.bool_) if mask_tile is None else mask_tile
            mask_tile[part] = halve_mask(mask)
        if quarter.tile is not None:
            tile = tiff.layout.new_tile() if tile is None else tile
            tile[part] = halve(quarter.tile, mask)
    _put(tiff, tiff.levels[level], place_yx, tile)
    if tiff.mask:
        _put(tiff.mask, tiff.mask.levels[level], place_yx, mask_tile)


@dataclass(frozen=True, slots=True)
class _Halving:
    """Writes overviews of the image, and of its mask if it has one."""

    tiff: TiledTiff
    halve: Halve

    def worker(self, level: int) -> Worker[Shape, Shape]:
        """A worker that writes tiles of the level from the one before it."""

        @contextmanager
        def worker() -> Iterator[Callable[[Shape], Shape]]:
            def write_tile(place_yx: Shape) -> Shape:
                self._write_tile(level, place_yx)
                return place_yx

            yield write_tile

        return worker

    def _write_tile(self, level: int, place_yx: Shape) -> None:
        """Write one tile from the up to four tiles of the finer level that it covers."""
        put_halved(self.tiff, level, place_yx, self.halve, self._quarters(level, place_yx))

    def _quarters(self, level: int, place_yx: Shape) -> Iterator[Quarter]:
        down_count, right_count = self.tiff.levels[level - 1].grid_yx
        row, col = 2 * place_yx[0], 2 * place_yx[1]
        for down in range(min(2, down_count - row)):
            for right in range(min(2, right_count - col)):
                place = row + down, col + right
                finer = self.tiff.get(self.tiff.levels[level - 1], place)
                yield Quarter((down, right), finer, self._finer_mask(level, place))

    def _finer_mask(self, level: int, place_yx: Shape) -> Tile | None:
        mask = self.tiff.mask
        return None if mask is None else mask.get(mask.levels[level - 1], place_yx)


def _put(tiff: TiledTiff, level: TiffLevel, place_yx: Shape, tile: Tile | None) -> None:
    if tile is None:
        tiff.put_blank(level, place_yx)
    else:
        tiff.put(level, place_yx, tile)
