"""Robust fit: the transform that most pairs of points agree on, despite outliers.

RANSAC (Fischler and Bolles 1981, scored as MSAC by Torr and Zisserman 2000) finds the inliers; iteratively
reweighted least squares with Tukey's biweight then refine the transform.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aerotask.raster.alignment.match.similarity import FITS, Mode, Points, Similarity, Weights, to_complex

TRIALS = 600
SEED = 20_261
"""Fixed, so that the same pairs always give the same result."""
TUKEY_CUT = 4.685
"""In standard deviations: 95 % efficiency on normal errors."""
SMALLEST_SIGMA = 0.01
"""In the unit: smaller residuals don't reduce a pair's weight."""
ROUNDS = 12
_SHORTEST_BASE = 0.15
"""Two pairs closer than this share of the extent determine rotation and scale too poorly."""

Complexes = NDArray[np.complex128]


@dataclass(frozen=True, slots=True)
class RobustFit:
    """Transform with its inliers and their RMSE (in the unit of the tolerance)."""

    transform: Similarity
    inliers: NDArray[np.bool_]
    rmse: float

    @property
    def count(self) -> int:
        """The number of pairs that agree."""
        return int(self.inliers.sum())


def robust_fit(
    source: Points, target: Points, *, mode: Mode, tolerance: float, unit: float
) -> RobustFit | None:
    """Fit the transform from source to target that most pairs follow within `tolerance` units; None without three.

    `unit` is the length of the unit (a pixel, for example) in the points' own measure.
    """
    z, w = to_complex(source) / unit, to_complex(target) / unit
    agreeing = _consensus(z, w, mode=mode, tolerance=tolerance)
    if agreeing is None or agreeing.sum() < 3:
        return None
    found = _reweighted(z, w, agreeing, mode=mode, tolerance=tolerance)
    residuals = _residuals(found, z, w)
    inliers = residuals <= tolerance
    if inliers.sum() < 3:
        return None
    rmse = float(np.sqrt(np.mean(residuals[inliers] ** 2)))
    return RobustFit(Similarity(found.factor, found.shift * unit), inliers, rmse)


def _residuals(transform: Similarity, z: Complexes, w: Complexes) -> Weights:
    distances: Weights = np.abs(transform.factor * z + transform.shift - w)
    return distances


def _consensus(z: Complexes, w: Complexes, *, mode: Mode, tolerance: float) -> NDArray[np.bool_] | None:
    """RANSAC: the pairs that follow the best of many transforms, each determined by a minimal sample."""
    factors, shifts = _trials(z, w, mode)
    if not factors.size:
        return None
    distances = np.abs(factors[:, None] * z + shifts[:, None] - w)
    costs = np.minimum(distances / tolerance, 1.0) ** 2
    best = int(np.argmin(costs.sum(axis=1)))
    agreeing: NDArray[np.bool_] = distances[best] <= tolerance
    return agreeing


def _trials(z: Complexes, w: Complexes, mode: Mode) -> tuple[Complexes, Complexes]:
    if mode == "translation":
        return np.ones(z.size, np.complex128), w - z
    if z.size < 2:
        return np.empty(0, np.complex128), np.empty(0, np.complex128)
    random = np.random.default_rng(SEED)
    first, second = random.integers(0, z.size, (2, TRIALS))
    base = z[second] - z[first]
    shortest = _SHORTEST_BASE * max(np.ptp(z.real), np.ptp(z.imag))
    far = np.abs(base) > max(shortest, 1e-9)
    first, second, base = first[far], second[far], base[far]
    factors = (w[second] - w[first]) / base
    return factors, w[first] - factors * z[first]


def _reweighted(
    z: Complexes, w: Complexes, agreeing: NDArray[np.bool_], *, mode: Mode, tolerance: float
) -> Similarity:
    fit = FITS[mode]
    found = fit(z[agreeing], w[agreeing], np.ones(int(agreeing.sum())))
    for _ in range(ROUNDS):
        residuals = _residuals(found, z, w)
        near = residuals[residuals <= tolerance]
        if near.size < 3:
            break
        # The residuals are lengths in the plane: the median of a Rayleigh variable is 1.1774 σ.
        sigma = max(float(np.median(near)) / 1.1774, SMALLEST_SIGMA)
        weights = _biweights(residuals / (TUKEY_CUT * sigma))
        if np.count_nonzero(weights) < 3:
            break
        found = fit(z, w, weights)
    return found


def _biweights(ratios: Weights) -> Weights:
    weights: Weights = np.where(ratios < 1, (1 - np.minimum(ratios, 1) ** 2) ** 2, 0.0)
    return weights
