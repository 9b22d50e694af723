"""Initial estimate of the transform, from both rasters at about a thousand pixels.

Phase correlation (Kuglin and Hines 1975) finds a shift of any length. Rotation and scale become shifts in the
logarithmic polar spectrum (Reddy and Chatterji 1996), which leaves 180° open. Of the candidates, the one with
the sharpest correlation peak wins.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from aerotask.raster.alignment.common_grid import Grid
from aerotask.raster.alignment.match.gradient import GradientImage
from aerotask.raster.alignment.match.similarity import (
    Mode,
    Similarity,
    fit_similarity,
    fit_translation,
    to_complex,
)
from aerotask.raster.expression.evaluate import Floats

ESTIMATE_PX = 1024
"""Longer side of the images that the estimate is made from."""
ANGLES, RADII = 1024, 1024
SMALLEST_RADIUS = 8.0
"""In cycles per image: lower frequencies show lighting and outlines rather than content."""
NEAR_PX = 6
"""Width of a peak that rotation or scale has spread; a rival peak is farther away."""
SCALE_LIMITS = (0.5, 2.0)

Spectrum = NDArray[np.complexfloating[Any, Any]]


@dataclass(frozen=True, slots=True)
class Peak:
    """Peak of a correlation (columns, rows), and its height above the mean in standard deviations.

    `rival` is the height of the next highest peak farther away, as a share of this one's.
    """

    x: float
    y: float
    sharpness: float
    rival: float


@dataclass(frozen=True, slots=True)
class InitialEstimate:
    """Initial transform of the plane, with the sharpness of its correlation peak."""

    transform: Similarity
    sharpness: float
    rival: float
    """The next best shift's peak as a share of the best one's; near 1 for a repeating pattern."""
    found_by: str


@dataclass(frozen=True, slots=True)
class _Rotation:
    """A rotation (from x towards y, in radians) and a scale about the centre of an image."""

    angle: float
    scale: float
    found_by: str


def estimate_transform(
    source: GradientImage, reference: GradientImage, grid: Grid, *, mode: Mode
) -> InitialEstimate:
    """The best candidate for the transform from the source to the reference, both on the same grid."""
    target = np.fft.rfft2(_padded(_windowed(reference)))
    found = []
    for turn in _candidates(source, reference, mode):
        turned = _rotate(source, turn)
        peak = _correlate(np.fft.rfft2(_padded(turned)), target)
        found.append(_to_estimate(turn, peak, grid, mode))
    return max(found, key=lambda estimate: estimate.sharpness)


def _candidates(source: GradientImage, reference: GradientImage, mode: Mode) -> Iterator[_Rotation]:
    yield _Rotation(0.0, 1.0, "phase correlation")
    if mode == "similarity":
        angle, scale = _rotation_and_scale(source, reference)
        if SCALE_LIMITS[0] <= scale <= SCALE_LIMITS[1]:
            yield _Rotation(angle, scale, "Fourier-Mellin")
            yield _Rotation(angle + math.pi, scale, "Fourier-Mellin, half a turn on")


def _to_estimate(turn: _Rotation, peak: Peak, grid: Grid, mode: Mode) -> InitialEstimate:
    """The rotation about the centre, followed by the shift, as a transform of the plane."""
    corners = grid.corners()
    turn_matrix = _rotation_matrix(turn, grid.shape_yx)
    # OpenCV's matrix refers to the centres of pixels.
    landed = (corners - 0.5) @ turn_matrix[:, :2].T + turn_matrix[:, 2] + 0.5 + (peak.x, peak.y)
    fit = fit_similarity if mode == "similarity" else fit_translation
    start, end = (to_complex(grid.plane_points(points)) for points in (corners, landed))
    return InitialEstimate(fit(start, end, np.ones(len(corners))), peak.sharpness, peak.rival, turn.found_by)


def _rotation_matrix(turn: _Rotation, shape_yx: tuple[int, int]) -> NDArray[np.float64]:
    cos, sin = turn.scale * math.cos(turn.angle), turn.scale * math.sin(turn.angle)
    linear = np.array([[cos, -sin], [sin, cos]])
    centre = (np.array(shape_yx[::-1]) - 1) / 2
    return np.column_stack([linear, centre - linear @ centre])


def _rotate(edges: GradientImage, turn: _Rotation) -> Floats:
    window = _window(edges.strength.shape)
    if turn.angle == 0 and turn.scale == 1:
        return edges.strength * window
    rows, cols = edges.strength.shape
    matrix = _rotation_matrix(turn, (rows, cols))
    turned = cv2.warpAffine(edges.strength, matrix, (cols, rows), flags=cv2.INTER_LINEAR)
    return np.asarray(turned, np.float32) * window


def _windowed(edges: GradientImage) -> Floats:
    return edges.strength * _window(edges.strength.shape)


def _window(shape: tuple[int, ...]) -> Floats:
    """A cosine taper along the outer eighths of both axes, so that the image's frame doesn't appear as an edge."""
    rows, cols = (_taper(size) for size in shape)
    window: Floats = rows[:, None] * cols[None, :]
    return window


def _taper(size: int) -> Floats:
    position = (np.arange(size) + 0.5) / size
    rise = np.clip(np.minimum(position, 1 - position) * 8, 0, 1)
    return np.asarray(0.5 - 0.5 * np.cos(np.pi * rise), np.float32)


def _padded(image: Floats) -> Floats:
    """The image padded with zeros at the right and bottom, to a size with a fast Fourier transform."""
    rows, cols = image.shape
    padded = np.zeros((cv2.getOptimalDFTSize(rows), cv2.getOptimalDFTSize(cols)), np.float32)
    padded[:rows, :cols] = image
    return padded


def _correlate(first: Spectrum, second: Spectrum) -> Peak:
    """The peak of the phase correlation: the shift of the second image against the first."""
    cross = np.conj(first) * second
    magnitude = np.abs(cross)
    floor = 1e-6 * float(magnitude.max()) + 1e-30
    rows = first.shape[0]
    surface = np.fft.irfft2(
        cross / np.maximum(magnitude, np.float32(floor)), s=(rows, 2 * (first.shape[1] - 1))
    )
    return _peak(surface.astype(np.float32))


def _peak(surface: Floats) -> Peak:
    """The highest point of a periodic surface, with subpixel precision."""
    rows, cols = surface.shape
    row, col = (int(index) for index in np.unravel_index(int(surface.argmax()), surface.shape))
    mean, sigma = float(surface.mean()), float(surface.std()) or 1.0
    height = float(surface[row, col]) - mean
    y = row + _vertex(surface[row - 1, col], surface[row, col], surface[(row + 1) % rows, col])
    x = col + _vertex(surface[row, col - 1], surface[row, col], surface[row, (col + 1) % cols])
    rival = (_highest_beyond(surface, row, col) - mean) / height if height > 0 else 1.0
    return Peak(_signed(x, cols), _signed(y, rows), height / sigma, rival)


def _highest_beyond(surface: Floats, row: int, col: int) -> float:
    """The highest value of a periodic surface farther than `NEAR_PX` from a point."""
    turned = np.roll(surface, (NEAR_PX - row, NEAR_PX - col), axis=(0, 1))
    around = 2 * NEAR_PX + 1
    beyond = [part.max() for part in (turned[around:], turned[:around, around:]) if part.size]
    return float(max(beyond, default=surface[row, col]))


def _vertex(before: float, here: float, after: float) -> float:
    """The vertex of the parabola through three values, the middle one the highest."""
    bend = float(before) - 2 * float(here) + float(after)
    return 0.5 * (float(before) - float(after)) / bend if bend < 0 else 0.0


def _signed(position: float, size: int) -> float:
    return position - size if position > size / 2 else position


def _rotation_and_scale(source: GradientImage, reference: GradientImage) -> tuple[float, float]:
    """Rotation and scale of the source against the reference, from their spectra; ambiguous by half a turn."""
    source_spectrum, reference_spectrum = (
        np.fft.rfft2(_polar_spectrum(_windowed(edges))) for edges in (source, reference)
    )
    peak = _correlate(source_spectrum, reference_spectrum)
    angle = peak.y * 2 * math.pi / ANGLES
    # The spectrum shrinks as the image grows.
    scale = math.exp(-peak.x * _log_step())
    return angle, scale


def _log_step() -> float:
    return math.log((ESTIMATE_PX / 2) / SMALLEST_RADIUS) / RADII


def _polar_spectrum(image: Floats) -> Floats:
    """Log-polar magnitude spectrum: angles over half a turn, and logarithmic radii."""
    square = np.zeros((ESTIMATE_PX, ESTIMATE_PX), np.float32)
    rows, cols = (min(size, ESTIMATE_PX) for size in image.shape)
    square[:rows, :cols] = image[:rows, :cols]
    magnitude = np.log1p(np.abs(np.fft.fftshift(np.fft.fft2(square)))).astype(np.float32)
    angles = np.arange(ANGLES // 2, dtype=np.float32)[:, None] * np.float32(2 * math.pi / ANGLES)
    radii = np.float32(SMALLEST_RADIUS) * np.exp(np.arange(RADII, dtype=np.float32) * np.float32(_log_step()))
    x = ESTIMATE_PX / 2 + radii * np.cos(angles)
    y = ESTIMATE_PX / 2 + radii * np.sin(angles)
    polar = cv2.remap(magnitude, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR)
    # Each radius minus its mean: the decrease towards high frequencies is the same in every image.
    centred = polar - polar.mean(axis=0, keepdims=True)
    return np.asarray(centred * _taper(RADII), np.float32)
