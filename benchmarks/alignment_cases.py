"""Test surveys for alignment: one real photograph shifted, rotated and scaled, unchanged or aged by a year.

Pixel (x, y) of a survey, measured from the centre of the first pixel, shows the reference's pixel M·(x, y).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.transform import Affine, from_origin
from rasterio.warp import Resampling, reproject

Matrix = NDArray[np.float64]
Pixels = NDArray[np.uint8]

CRS = "EPSG:32615"
PIXEL_M = 0.035
TRANSFORM = from_origin(576_000.0, 5_187_000.0, PIXEL_M, PIXEL_M)
MOVES = {
    "shift of 15 px": (0.0, 1.0, 13.37, -6.8),
    "shift of 80 px": (0.0, 1.0, 61.23, -51.49),
    "0.35 deg, x 1.004": (0.35, 1.004, 7.31, -4.43),
    "2.5 deg, x 0.98": (2.5, 0.98, -12.62, 9.87),
    "12 deg, x 0.9": (12.0, 0.9, 23.41, 17.29),
}


@dataclass(frozen=True, slots=True)
class Case:
    """A survey on disk with its true position."""

    name: str
    source: Path
    matrix: Matrix


def write_cases(photo: Path, other: Path, folder: Path) -> tuple[Path, list[Case]]:
    """Writes the reference and all ten cases; existing files are reused."""
    pixels = read_photo(photo)
    reference = write(folder / "reference.tif", pixels)
    cases = []
    for number, (name, move) in enumerate(MOVES.items()):
        matrix = matrix_of(*move, shape_yx=(pixels.shape[1], pixels.shape[2]))
        plain = folder / f"case-{number}.tif"
        aged = folder / f"case-{number}-aged.tif"
        if not (plain.exists() and aged.exists()):
            moved = survey(pixels, matrix)
            write(plain, moved)
            write(aged, a_year_later(moved, read_photo(other), seed=number))
        cases += [Case(name, plain, matrix), Case(f"{name}, a year on", aged, matrix)]
    return reference, cases


def read_photo(path: Path) -> Pixels:
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    assert picture is not None, path
    return np.maximum(np.ascontiguousarray(picture[:, :, ::-1].transpose(2, 0, 1)), 1)


def write(path: Path, pixels: NDArray[Any], **options: Any) -> Path:
    settings = {
        "driver": "GTiff",
        "count": pixels.shape[0],
        "height": pixels.shape[1],
        "width": pixels.shape[2],
        "dtype": pixels.dtype,
        "crs": CRS,
        "transform": TRANSFORM,
        "nodata": 0,
        "tiled": True,
        "blockxsize": 256,
        "blockysize": 256,
        "compress": "deflate",
        "predictor": 2,
        "interleave": "pixel",
    } | options
    partial = path.with_suffix(".part")
    with rasterio.open(partial, "w", **settings) as target:
        target.write(pixels)
    return partial.rename(path)


def matrix_of(angle_deg: float, scale: float, x: float, y: float, *, shape_yx: tuple[int, int]) -> Matrix:
    """Similarity transform about the image centre."""
    angle = math.radians(angle_deg)
    linear = scale * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    centre = (np.array(shape_yx[::-1], np.float64) - 1) / 2
    return np.column_stack([linear, centre - linear @ centre + (x, y)])


def survey(pixels: NDArray[Any], matrix: Matrix) -> NDArray[Any]:
    """Pixels of the survey, by GDAL's Lanczos, which computes every position exactly."""
    (a, b, c), (d, e, f) = matrix
    # From centres to corners: GDAL measures positions from the corner of the first pixel.
    corner = Affine(a, b, c + 0.5 - 0.5 * (a + b), d, e, f + 0.5 - 0.5 * (d + e))
    moved = np.zeros_like(pixels)
    reproject(
        pixels,
        moved,
        src_transform=Affine(1, 0, 0, 0, 1, 0),
        dst_transform=corner,
        src_crs=CRS,
        dst_crs=CRS,
        src_nodata=0,
        dst_nodata=0,
        resampling=Resampling.lanczos,
        tolerance=0,
        num_threads=2,
    )
    return moved


def a_year_later(pixels: Pixels, other: Pixels, *, seed: int) -> Pixels:
    """Ages an image: gamma, gain and offset per band, a light gradient, 9 % changed content, shadows, noise, JPEG."""
    random = np.random.default_rng([2026, seed])
    _, rows, cols = pixels.shape
    here = pixels.min(axis=0) > 0
    values = pixels.astype(np.float32) / 255
    for top, left, height, width in rectangles(random, rows, cols, share=0.09):
        area = (slice(None), slice(top, top + height), slice(left, left + width))
        values[area] = other[:, top : top + height, left : left + width].astype(np.float32) / 255
    for top, left, height, width in rectangles(random, rows, cols, share=0.05):
        values[:, top : top + height, left : left + width] *= 0.55
    gamma = random.uniform(0.75, 1.35, (3, 1, 1))
    gain, offset = random.uniform(0.8, 1.2, (3, 1, 1)), random.uniform(-0.05, 0.08, (3, 1, 1))
    light = 0.85 + 0.3 * np.linspace(0, 1, cols)[None, None] * np.linspace(1, 0.6, rows)[None, :, None]
    values = (values**gamma * gain + offset) * light + random.normal(0, 0.02, values.shape)
    bytes_yx = (np.clip(values, 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)
    _, encoded = cv2.imencode(".jpg", np.ascontiguousarray(bytes_yx), [cv2.IMWRITE_JPEG_QUALITY, 85])
    decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    assert decoded is not None
    return np.asarray(np.maximum(decoded.transpose(2, 0, 1), 1) * here, np.uint8)


def rectangles(
    random: np.random.Generator, rows: int, cols: int, *, share: float
) -> Iterator[tuple[int, int, int, int]]:
    """Random patches that together cover that share, if they don't overlap."""
    covered = 0
    while covered < share * rows * cols:
        height, width = (int(random.uniform(0.03, 0.12) * size) for size in (rows, cols))
        covered += height * width
        yield int(random.uniform(0, rows - height)), int(random.uniform(0, cols - width)), height, width


def rmse_px(found: Matrix, case: Case, shape_yx: tuple[int, int]) -> float:
    """Position error of the survey's pixels over the whole overlap."""
    rows, cols = shape_yx
    points = np.stack(np.meshgrid(np.linspace(0, cols, 40), np.linspace(0, rows, 40)), axis=-1).reshape(-1, 2)
    true, claimed = (points @ m[:, :2].T + m[:, 2] for m in (case.matrix, found))
    inside = ((true >= 0) & (true <= (cols, rows))).all(axis=1)
    return float(np.sqrt(((claimed - true)[inside] ** 2).sum(axis=1).mean()))
