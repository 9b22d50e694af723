"""Patch matching: small parts of one image found in another with subpixel precision."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from aerotask.raster.alignment.match.gradient import REACH_PX, GradientImage
from aerotask.raster.alignment.match.similarity import Points
from aerotask.raster.expression.evaluate import Floats

MIN_CORRELATION = 0.35
MIN_VALID_SHARE = 0.9
"""Minimum share of valid pixels of a patch, in both images."""
MIN_CORNER_QUALITY = 0.02
"""Minimum corner strength, as a share of the strongest corner's."""


@dataclass(frozen=True, slots=True)
class Patches:
    """Tie points: centres of patches in one image (x, y), their positions in the other, and their correlations."""

    centres: Points
    found: Points
    correlations: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PatchSearch:
    """Options of the search: the patches' side, the search radius, and the maximum number of patches."""

    patch_px: int
    reach_px: int
    max_count: int


def match_patches(source: GradientImage, reference: GradientImage, search: PatchSearch) -> Patches:
    """Match the source's strongest patches near their own positions in the reference.

    The reference extends `reach_px` beyond the source on every side. Positions are in the source's pixels.
    """
    places = strongest_corners(source, patch_px=search.patch_px, max_count=search.max_count)
    matched = [(place, where) for place in places if (where := _match(source, reference, place, search))]
    centres = np.array([(x, y) for (x, y), _ in matched], np.float64).reshape(-1, 2)
    shifts = np.array([where[:2] for _, where in matched], np.float64).reshape(-1, 2)
    return Patches(centres, centres + shifts, np.array([where[2] for _, where in matched], np.float64))


def strongest_corners(edges: GradientImage, *, patch_px: int, max_count: int) -> list[tuple[int, int]]:
    """The centres (x, y) of the patches whose smaller eigenvalue of the structure is largest (Shi and Tomasi 1994).

    Their distance is at least half a patch.
    """
    half = patch_px // 2
    margin = half + REACH_PX
    rows, cols = edges.strength.shape
    allowed = np.zeros((rows, cols), np.uint8)
    share = cv2.blur(edges.valid.astype(np.float32), (patch_px, patch_px), borderType=cv2.BORDER_CONSTANT)
    allowed[margin : rows - margin, margin : cols - margin] = 255
    allowed[np.asarray(share) < MIN_VALID_SHARE] = 0
    if not allowed.any():
        return []
    corners = cv2.goodFeaturesToTrack(
        edges.strength, max_count, MIN_CORNER_QUALITY, half, mask=allowed, blockSize=patch_px - 1
    )
    # OpenCV's stubs don't know that the result may be None.
    if corners is None:
        return []  # type: ignore[unreachable]
    return [(int(x), int(y)) for x, y in np.asarray(corners).reshape(-1, 2)]


def _match(
    source: GradientImage, reference: GradientImage, place: tuple[int, int], search: PatchSearch
) -> tuple[float, float, float] | None:
    """The shift (x, y) of the patch and its correlation; None if it isn't found."""
    patch_px, reach_px = search.patch_px, search.reach_px
    half = patch_px // 2
    left, top = place[0] - half, place[1] - half
    template = source.strength[top : top + patch_px, left : left + patch_px]
    side = patch_px + 2 * reach_px
    surroundings = reference.strength[top : top + side, left : left + side]
    if not template.any() or not surroundings.any():
        return None
    surface = cv2.matchTemplate(surroundings, template, cv2.TM_CCOEFF_NORMED)
    row, col = (int(index) for index in np.unravel_index(int(np.argmax(surface)), surface.shape))
    inside = 0 < row < surface.shape[0] - 1 and 0 < col < surface.shape[1] - 1
    if not inside or not surface[row, col] >= MIN_CORRELATION:
        return None
    seen = reference.valid[top + row : top + row + patch_px, left + col : left + col + patch_px]
    if seen.mean() < MIN_VALID_SHARE:
        return None
    x, y = quadratic_peak(np.asarray(surface[row - 1 : row + 2, col - 1 : col + 2], np.float64))
    return col + x - reach_px, row + y - reach_px, float(surface[row, col])


def quadratic_peak(values: NDArray[np.float64]) -> tuple[float, float]:
    """The vertex (x, y) of the quadratic surface that fits 3 × 3 values best, relative to their middle."""
    xx = float((values[:, 0] - 2 * values[:, 1] + values[:, 2]).sum() / 3)
    yy = float((values[0] - 2 * values[1] + values[2]).sum() / 3)
    xy = float(values[0, 0] - values[0, 2] - values[2, 0] + values[2, 2]) / 4
    x = float((values[:, 2] - values[:, 0]).sum() / 6)
    y = float((values[2] - values[0]).sum() / 6)
    determinant = xx * yy - xy * xy
    if xx >= 0 or determinant <= 0:
        return 0.0, 0.0
    top_x, top_y = (xy * y - yy * x) / determinant, (xy * x - xx * y) / determinant
    return min(max(top_x, -1.0), 1.0), min(max(top_y, -1.0), 1.0)


def correlation_of(one: Floats, other: Floats) -> float:
    """The normalised correlation of two zero-mean images."""
    norm = float(np.linalg.norm(one)) * float(np.linalg.norm(other))
    return float(np.vdot(one, other)) / norm if norm else 0.0
