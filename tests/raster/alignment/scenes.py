"""Unique textures, cut from one canvas so that their true positions are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rasterio.transform import Affine, from_origin
from tests.raster.rasters import Pixels, write_raster

from aerotask.raster.header import read_profile
from aerotask.raster.io import open_raster
from aerotask.raster.pixels import SourceFile

SIDE = 512
ORIGIN = (500_000.0, 5_000_000.0)
METRES = 0.5


def canvas(seed: int = 1, *, side: int = SIDE + 128, bands: int = 3) -> Pixels:
    """Noise of many sizes, from 20 to 235, as bytes (bands, rows, cols)."""
    random = np.random.default_rng(seed)
    layers = []
    for _ in range(bands):
        layer = np.zeros((side, side), np.float32)
        for sigma in (1.2, 3.0, 8.0, 24.0):
            noise = random.standard_normal((side, side)).astype(np.float32)
            smooth = np.asarray(cv2.GaussianBlur(noise, (0, 0), sigma))
            layer += smooth / smooth.std()
        low, high = np.percentile(layer, (1, 99))
        layers.append(np.clip(20 + 215 * (layer - low) / (high - low), 20, 235))
    return np.asarray(np.rint(np.stack(layers)), np.uint8)


def cut(pixels: Pixels, *, left: int, top: int, side: int = SIDE) -> Pixels:
    """A square whose first pixel is the canvas's pixel (64 + left, 64 + top)."""
    rows, cols = slice(64 + top, 64 + top + side), slice(64 + left, 64 + left + side)
    return np.ascontiguousarray(pixels[..., rows, cols])


def shifted(pixels: Pixels, *, right: int, down: int) -> Pixels:
    """The square with its content moved by that many pixels."""
    return cut(pixels, left=-right, top=-down)


def located(step: float = METRES, *, right: float = 0.0, down: float = 0.0) -> dict[str, Any]:
    """The transform of a raster whose origin is that many metres to the right of and below the others."""
    return {"transform": from_origin(ORIGIN[0] + right, ORIGIN[1] - down, step, step)}


def turned(degrees: float, step: float = METRES) -> Affine:
    """The transform of a raster whose rows are rotated against the map's."""
    return Affine.translation(*ORIGIN) @ Affine.rotation(degrees) @ Affine.scale(step, -step)


def on_disk(path: Path, pixels: Pixels, **options: Any) -> SourceFile:
    """Write the raster and read its header."""
    write_raster(path, pixels, **options)
    with open_raster(path) as opened:
        return SourceFile(path, read_profile(opened))
