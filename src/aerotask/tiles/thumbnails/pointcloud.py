"""Thumbnails of point clouds: from above, coloured by the height of the highest point in each pixel."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import laspy
import numpy as np
from laspy.errors import LaspyException
from lazrs import LazrsError
from numpy.typing import NDArray

from aerotask.domain.errors import InvalidInput
from aerotask.raster.colormaps import colours_of
from aerotask.raster.pixels import OPAQUE
from aerotask.tiles.colorize import Rgba

COLORMAP = "viridis"
SAMPLED_POINTS = 1_000_000
SAMPLE_RUNS = 40
"""The sample consists of so many runs of consecutive points, spread over the file."""
HEIGHT_PERCENTILES = (2, 98)
# Dilation of the points, which closes gaps that come from sampling.
_DILATION_PX = 1

# MemoryError as well: only a header with wrong sizes makes a sample need much memory.
_DAMAGE_ERRORS = (
    MemoryError,
    LaspyException,
    LazrsError,
    OSError,
    ValueError,
    KeyError,
    IndexError,
    OverflowError,
    EOFError,
)


def draw_cloud(path: Path, *, size_px: int) -> Rgba:
    """Point cloud from above, its longer side `size_px`; transparent where there is no point.

    Raises:
        InvalidInput: the file is damaged or not LAS or LAZ (`unreadable-cloud`), or has no points (`empty-cloud`).
    """
    try:
        with laspy.open(path) as reader:
            points = np.concatenate([np.empty((0, 3)), *_sample(reader)])
    except _DAMAGE_ERRORS as error:
        raise InvalidInput(
            "The point cloud can't be read: the file is damaged, incomplete, or not LAS or LAZ.",
            code="unreadable-cloud",
        ) from error
    points = points[np.isfinite(points).all(axis=1)]
    if not len(points):
        raise InvalidInput("The point cloud has no points.", code="empty-cloud")
    return _colorize(_max_heights(points, size_px=size_px))


def _sample(reader: Any) -> Iterator[NDArray[np.float64]]:
    """Sampled points (n, 3): all of a small cloud, else runs of consecutive ones."""
    count = int(reader.header.point_count)
    if count <= SAMPLED_POINTS:
        for chunk in reader.chunk_iterator(SAMPLED_POINTS // SAMPLE_RUNS):
            yield _xyz(chunk)
        return
    for run in range(SAMPLE_RUNS):
        reader.seek(run * count // SAMPLE_RUNS)
        yield _xyz(reader.read_points(SAMPLED_POINTS // SAMPLE_RUNS))


def _xyz(points: Any) -> NDArray[np.float64]:
    return np.column_stack([np.asarray(points.x), np.asarray(points.y), np.asarray(points.z)])


def _max_heights(points: NDArray[np.float64], *, size_px: int) -> NDArray[np.float64]:
    """Maximum height per pixel (rows, cols), north up; NaN without a point."""
    low, high = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
    side = max(float((high - low).max()), 1e-9)
    pixel = side / size_px
    cols, rows = (max(int(np.ceil(extent / pixel)), 1) for extent in high - low)
    col = np.minimum((points[:, 0] - low[0]) / pixel, cols - 1).astype(np.intp)
    row = np.minimum((high[1] - points[:, 1]) / pixel, rows - 1).astype(np.intp)
    heights = np.full((rows, cols), -np.inf)
    for down in range(-_DILATION_PX, _DILATION_PX + 1):
        for right in range(-_DILATION_PX, _DILATION_PX + 1):
            index = np.clip(row + down, 0, rows - 1), np.clip(col + right, 0, cols - 1)
            np.maximum.at(heights, index, points[:, 2])
    heights[np.isinf(heights)] = np.nan
    return heights


def _colorize(heights: NDArray[np.float64]) -> Rgba:
    known = ~np.isnan(heights)
    low, high = np.percentile(heights[known], HEIGHT_PERCENTILES)
    share = np.clip((heights[known] - low) / max(high - low, 1e-9), 0, 1)
    table = np.frombuffer(colours_of(COLORMAP), np.uint8).reshape(-1, 3)
    rgba = np.zeros((*heights.shape, 4), np.uint8)
    rgba[known, :3] = table[(share * (len(table) - 1)).astype(np.intp)]
    rgba[known, 3] = OPAQUE
    return rgba
