"""Gradient images, which are compared instead of brightness: the square root of the gradient's magnitude.

Edges keep their position when light, season, exposure or band change; the root keeps a few strong ones from
outweighing the others.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from aerotask.raster.alignment.match.reading import MaskedImage
from aerotask.raster.expression.evaluate import Flags, Floats

SMOOTHING_PX = 0.8
REACH_PX = 4
"""Reach of smoothing and gradient: pixels this close to an invalid one are invalid."""


@dataclass(frozen=True, slots=True)
class GradientImage:
    """Edge strength minus its mean (rows, cols), 0 for invalid pixels."""

    strength: Floats
    valid: Flags


def gradient_of(image: MaskedImage) -> GradientImage:
    """The gradient image of an image."""
    smooth = cv2.GaussianBlur(image.values, (5, 5), SMOOTHING_PX)
    along = cv2.Scharr(smooth, cv2.CV_32F, 1, 0)
    down = cv2.Scharr(smooth, cv2.CV_32F, 0, 1)
    strength = np.sqrt(cv2.magnitude(along, down))
    valid = _shrunk(image.valid)
    mean = np.float32(strength[valid].mean(dtype=np.float64)) if valid.any() else np.float32(0)
    return GradientImage(np.where(valid, strength - mean, np.float32(0)), valid)


def _shrunk(valid: Flags) -> Flags:
    """Erosion: the valid pixels without a margin of `REACH_PX` along invalid ones."""
    kernel = np.ones((2 * REACH_PX + 1, 2 * REACH_PX + 1), np.uint8)
    eroded = cv2.erode(valid.view(np.uint8), kernel, borderType=cv2.BORDER_CONSTANT, borderValue=1)
    return np.asarray(eroded, np.bool_)
