"""Halves tiles of measured values in several bands for overviews: the mean of each 2 × 2 values that count."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aerotask.raster.pixels import native_nodata
from aerotask.raster.tiff.codec import Tile


def halving_of_samples(nodata: float | None) -> Callable[[Tile], Tile]:
    """How tiles (rows, cols, bands) with that nodata value are halved; means of whole numbers are rounded."""
    return partial(_halve, nodata=nodata)


def _halve(tile: Tile, *, nodata: float | None) -> Tile:
    value = native_nodata(nodata, tile.dtype)
    if tile.dtype.kind == "f":
        return _halve_floats(tile, value)
    if value is None:
        return _halve_all(tile)
    return _halve_counted(tile, value)


def _halve_all(tile: NDArray[Any]) -> NDArray[Any]:
    sums = _sum_of_four(tile, _sum_type(tile))
    means: NDArray[Any] = ((sums + 2) >> 2).astype(tile.dtype)
    return means


def _halve_counted(tile: NDArray[Any], nodata: Any) -> NDArray[Any]:
    counts_here = tile != nodata
    if counts_here.all():
        return _halve_all(tile)
    sum_type = _sum_type(tile)
    counts = _sum_of_four(counts_here, sum_type)
    sums = _sum_of_four(np.where(counts_here, tile, tile.dtype.type(0)), sum_type)
    divisors = np.maximum(counts, 1)
    means: NDArray[Any] = ((2 * sums + divisors) // (2 * divisors)).astype(tile.dtype)
    means[counts == 0] = nodata
    return means


def _halve_floats(tile: NDArray[Any], nodata: Any) -> NDArray[Any]:
    counts_here = ~np.isnan(tile)
    if nodata is not None:
        counts_here &= tile != nodata
    counts = _sum_of_four(counts_here, tile.dtype)
    sums = _sum_of_four(np.where(counts_here, tile, tile.dtype.type(0)), tile.dtype)
    nothing = np.nan if nodata is None else nodata
    means = np.full(counts.shape, nothing, tile.dtype)
    # Infinities of both signs add up to NaN, and sums may overflow: what comes out is then not finite either.
    with np.errstate(invalid="ignore", over="ignore"):
        np.divide(sums, counts, out=means, where=counts > 0)
    return means


def _sum_type(tile: NDArray[Any]) -> np.dtype[Any]:
    """A type that holds eight times any value."""
    return np.dtype(np.int32 if tile.dtype.itemsize <= 2 else np.int64)


def _sum_of_four(values: NDArray[Any], sum_type: np.dtype[Any]) -> NDArray[Any]:
    with np.errstate(invalid="ignore", over="ignore"):
        rows = np.add(values[0::2], values[1::2], dtype=sum_type)
        sums: NDArray[Any] = rows[:, 0::2] + rows[:, 1::2]
    return sums
