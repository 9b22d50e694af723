"""Preview of two rasters over their overlap, before or after their alignment."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from aerotask.domain.errors import InvalidInput
from aerotask.raster.alignment.checks import AlignInput, check_alignable, check_overlap
from aerotask.raster.alignment.common_grid import Grid
from aerotask.raster.alignment.match.matching import overlap_box
from aerotask.raster.alignment.match.reading import MaskedImage
from aerotask.raster.alignment.match.similarity import IDENTITY, Similarity
from aerotask.raster.alignment.pair import Pair, make_pair
from aerotask.raster.georeference.side_georeference import SideGeoreference
from aerotask.raster.header import read_profile
from aerotask.raster.io import open_raster
from aerotask.raster.pixels import SourceFile

LONGEST_PX = 1024
STRETCH = (2, 98)
"""Percentiles that are shown as black and white."""
QUALITY = 80

Look = Literal["overlay", "side-by-side"]
"""`overlay`: the source in red, the reference in cyan, so that matching areas are grey."""

Bytes2d = NDArray[np.uint8]


def preview_pair(  # noqa: PLR0913  two rasters, and how to show them
    source: Path,
    reference: Path,
    *,
    sides: Sequence[SideGeoreference | None] = (None, None),
    look: Look = "overlay",
    transform: Similarity = IDENTITY,
    longest_px: int = LONGEST_PX,
) -> bytes:
    """A WebP image of both rasters over their overlap, no side longer than `longest_px`.

    `sides` are the georeferences of their side files; by default those beside them. The rasters are shown at their own positions, or with the source moved by a match's transform. Overviews are used.

    Raises:
        InvalidInput: one of them is no readable raster, or they can't be aligned (the codes of align-raster).
    """
    pair = _open_pair((source, reference), sides)
    gap_px = 8 if look == "side-by-side" else 0
    grid = _grid(pair, transform, (longest_px - gap_px) // 2 if gap_px else longest_px)
    detail = max(int(grid.pixel_length / pair.source_grid.pixel_length), 1)
    with pair.views(factor=detail) as (ours, theirs):
        left = _stretched(ours.on(grid, transform.inverse()))
        right = _stretched(theirs.on(grid))
    if gap_px:
        white = np.full((left.shape[0], gap_px), 255, np.uint8)
        return _webp(Image.fromarray(np.hstack([left, white, right])))
    return _webp(Image.fromarray(np.dstack([left, right, right])))


def _open_pair(paths: Sequence[Path], sides: Sequence[SideGeoreference | None]) -> Pair:
    files = []
    for path, side in zip(paths, sides, strict=True):
        with open_raster(path, side=side) as opened:
            files.append(SourceFile(path, read_profile(opened)))
    rasters = [AlignInput(file.path.name, file.profile, None) for file in files]
    for raster in rasters:
        check_alignable(raster)
    check_overlap(*rasters)
    return make_pair(*files)


def _grid(pair: Pair, transform: Similarity, longest_px: int) -> Grid:
    """Square pixels over the overlap, in the directions of the source's plane."""
    box = overlap_box(pair, transform)
    corners = np.array(
        [[box.left, box.top], [box.right, box.top], [box.right, box.bottom], [box.left, box.bottom]],
        np.float64,
    )
    points = transform.of(pair.source_grid.plane_points(corners))
    low, high = points.min(axis=0), points.max(axis=0)
    step = max(float((high - low).max()) / longest_px, pair.source_grid.pixel_length)
    cols, rows = (max(int(size / step), 1) for size in high - low)
    if not np.isfinite(step):
        raise InvalidInput("The two rasters do not overlap.", code="no-overlap")
    return Grid(np.array([[step, 0, low[0]], [0, -step, high[1]]]), (rows, cols))


def _stretched(image: MaskedImage) -> Bytes2d:
    """The image as bytes from 1 to 255; 0 for pixels without a value."""
    if not image.valid.any():
        return np.zeros(image.valid.shape, np.uint8)
    low, high = np.percentile(image.values[image.valid], STRETCH)
    scaled = 1 + 254 * np.clip((image.values - low) / max(high - low, 1e-9), 0, 1)
    return np.where(image.valid, scaled, 0).astype(np.uint8)


def _webp(image: Image.Image) -> bytes:
    content = io.BytesIO()
    image.save(content, "WEBP", quality=QUALITY)
    return content.getvalue()
