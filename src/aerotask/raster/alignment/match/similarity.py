"""Similarity transform: translation, rotation and change of scale of the plane."""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
"""(points, 2): x to the right or east, y up or north."""

Weights = NDArray[np.float64]

Mode = Literal["similarity", "translation"]


@dataclass(frozen=True, slots=True)
class Similarity:
    """Transform z → factor·z + shift of the complex plane: |factor| is the scale, arg(factor) the anticlockwise rotation."""

    factor: complex
    shift: complex

    @property
    def scale(self) -> float:
        """The factor by which distances grow."""
        return abs(self.factor)

    @property
    def rotation_deg(self) -> float:
        """The rotation, clockwise where x points right and y up."""
        return -math.degrees(cmath.phase(self.factor))

    def of(self, points: Points) -> Points:
        """The transformed points."""
        return from_complex(self.factor * to_complex(points) + self.shift)

    def inverse(self) -> Similarity:
        """The transform that undoes this one."""
        return Similarity(1 / self.factor, -self.shift / self.factor)

    def rounded(self, *, length: float) -> Similarity:
        """The nearest transform whose factor is a multiple of 2⁻²⁷ and whose shift a multiple of `length`.

        The last digits of a sum depend on the alignment of arrays in memory: without rounding, so would pixels.
        """
        return Similarity(_rounded(self.factor, 2.0**-27), _rounded(self.shift, length))


IDENTITY = Similarity(1 + 0j, 0j)

Fit = Callable[[Any, Any, Weights], Similarity]
"""Weighted least-squares fit of the transform from the first complex points to the second."""


def _rounded(number: complex, step: float) -> complex:
    return complex(round(number.real / step) * step, round(number.imag / step) * step)


def to_complex(points: Points) -> NDArray[np.complex128]:
    """The points as numbers of the complex plane."""
    return points[:, 0] + 1j * points[:, 1]


def from_complex(numbers: NDArray[np.complex128]) -> Points:
    """Numbers of the complex plane as points."""
    return np.column_stack([numbers.real, numbers.imag])


def fit_translation(source: Any, target: Any, weights: Weights) -> Similarity:
    """The translation that fits the source's points to the target's best."""
    return Similarity(1 + 0j, complex(np.average(target - source, weights=weights)))


def fit_similarity(source: Any, target: Any, weights: Weights) -> Similarity:
    """The similarity that fits the source's points to the target's best (Umeyama 1991, in complex form)."""
    source_mean = complex(np.average(source, weights=weights))
    target_mean = complex(np.average(target, weights=weights))
    centred = source - source_mean
    spread = float(np.sum(weights * np.abs(centred) ** 2))
    if spread == 0:
        return Similarity(1 + 0j, target_mean - source_mean)
    factor = complex(np.sum(weights * np.conj(centred) * (target - target_mean)) / spread)
    return Similarity(factor, target_mean - factor * source_mean)


FITS: dict[Mode, Fit] = {"similarity": fit_similarity, "translation": fit_translation}
