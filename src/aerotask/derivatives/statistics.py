"""Band statistics of a raster: exact figures over all valid pixels, read once in windows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window as RasterioWindow

from aerotask.raster.io import open_raster
from aerotask.raster.parallel import Worker, run_in_threads
from aerotask.raster.windows import Window, unit_shape, windows

_WORKING_BYTES = 16  # per value, while it is summed as float64
_PART_PX = 64 * 1024

Masked = Any
"""A numpy masked array, (bands, rows, cols)."""


@dataclass(frozen=True, slots=True)
class BandStatistics:
    """Statistics of the valid pixels of a band or a part of it; `spread` is the sum of squared deviations."""

    pixels: int
    valid: int
    minimum: float
    maximum: float
    mean: float
    spread: float

    def merged(self, other: BandStatistics) -> BandStatistics:
        """Statistics of both parts (Chan, Golub, LeVeque: Updating formulae for computing sample variances, 1979)."""
        if not (self.valid and other.valid):
            some = self if self.valid else other
            return BandStatistics(
                self.pixels + other.pixels, some.valid, some.minimum, some.maximum, some.mean, some.spread
            )
        valid = self.valid + other.valid
        delta = other.mean - self.mean
        return BandStatistics(
            self.pixels + other.pixels,
            valid,
            min(self.minimum, other.minimum),
            max(self.maximum, other.maximum),
            self.mean + delta * other.valid / valid,
            self.spread + other.spread + delta * delta * self.valid * other.valid / valid,
        )

    def to_properties(self) -> dict[str, Any]:
        """The statistics as entry properties; only `validPercent` if there is no valid pixel."""
        if not self.valid:
            return {"validPercent": 0.0}
        return {
            "min": self.minimum,
            "max": self.maximum,
            "mean": self.mean,
            "std": math.sqrt(self.spread / self.valid),
            "validPercent": round(100 * self.valid / self.pixels, 4),
        }


def raster_statistics(
    path: Path, *, threads: int, on_progress: Callable[[float], None]
) -> list[BandStatistics]:
    """Statistics of each band of the raster at `path`.

    Raises:
        InvalidInput: the codes are those of `raster.io.open_raster`.
    """
    with open_raster(path) as source:
        shape_yx = (source.height, source.width)
        bytes_per_px = source.count * _WORKING_BYTES
        parts = list(
            windows(
                shape_yx,
                unit_shape(
                    shape_yx,
                    tile_yx=(256, 256),
                    block_yx=source.block_shapes[0],
                    bytes_per_px=bytes_per_px,
                ),
            )
        )
    found: list[list[BandStatistics]] = []

    def take(part: list[BandStatistics]) -> None:
        found.append(part)
        on_progress(len(found) / len(parts))

    run_in_threads(parts, threads=threads, worker=_reader(path), on_result=take)
    return [reduce(BandStatistics.merged, of_band) for of_band in zip(*found, strict=True)]


def statistics_of(pixels: Masked) -> list[BandStatistics]:
    """Statistics of each band of an array; NaN and infinities are never valid."""
    return [_of_band(band) for band in pixels]


def statistics_of_valid(plane: NDArray[Any], valid: NDArray[np.bool_] | None, nodata: Any) -> BandStatistics:
    """Statistics of a band's samples (rows, cols) that are in `valid`, finite, and not the nodata value."""
    if nodata is not None:
        has_value = plane != nodata
        valid = has_value if valid is None else valid & has_value
    values = plane.ravel() if valid is None or valid.all() else plane[valid]
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        values = values[np.isfinite(values)]
    return _of_values(values, plane.size)


def percentiles_of(pixels: Masked, percents: Sequence[int]) -> list[dict[str, float]]:
    """Percentiles of each band of an array; none for a band without a valid pixel."""
    tables = []
    for band in pixels:
        values = _valid(band)
        found = np.percentile(values, percents) if len(values) else []
        tables.append({str(percent): float(value) for percent, value in zip(percents, found, strict=False)})
    return tables


def _reader(path: Path) -> Worker[Window, list[BandStatistics]]:
    @contextmanager
    def worker() -> Iterator[Callable[[Window], list[BandStatistics]]]:
        with open_raster(path) as source:
            yield lambda part: statistics_of(
                source.read(window=RasterioWindow.from_slices(*part), masked=True)
            )

    return worker


def _of_band(band: Masked) -> BandStatistics:
    return _of_values(_valid(band), band.size)


def _of_values(values: NDArray[Any], pixels: int) -> BandStatistics:
    if not len(values):
        return BandStatistics(pixels, 0, math.nan, math.nan, math.nan, 0.0)
    parts = (_of_part(values[start : start + _PART_PX]) for start in range(0, len(values), _PART_PX))
    found = reduce(BandStatistics.merged, parts)
    return replace(found, pixels=pixels)


def _of_part(values: NDArray[Any]) -> BandStatistics:
    """Statistics of a few values, all of them valid: in parts, since sums of float64 take eight bytes for each."""
    deviations = values.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        mean = float(deviations.mean())
        deviations -= mean
        # Not by `np.dot`, whose threads wait busily for each other.
        spread = float(np.square(deviations, out=deviations).sum())
    return BandStatistics(len(values), len(values), float(values.min()), float(values.max()), mean, spread)


def _valid(band: Masked) -> Any:
    values = band.compressed().astype(np.float64)
    return values[np.isfinite(values)]
