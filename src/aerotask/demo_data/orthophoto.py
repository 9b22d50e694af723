"""Synthetic multispectral orthophoto for the demo, tests and benchmarks."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.transform import from_origin
from rasterio.windows import Window as RasterioWindow

from aerotask.demo_data.farmland import BANDS, Farmland
from aerotask.demo_data.noise import Area, smooth_noise
from aerotask.raster.parallel import run_in_threads
from aerotask.raster.windows import Window, shape_of, windows

BLOCK_PX = 512
FULL_REFLECTANCE = 32768
"""Pixel value of full reflectance, as in the products of multispectral cameras."""
NODATA = 0
CRS = "EPSG:32632"
PIXEL_M = 0.08
ORIGIN_M = (642_300.0, 5_318_400.0)
DEFLATE_LEVEL = 5
CACHE_MB = 48

_OUTLINE_ANGLE = math.radians(-11)
_NOISE_SIGMA = 0.0045


def write_orthophoto(
    path: Path, *, size_px: int = 4096, bands: int = len(BANDS), seed: int = 7, threads: int = 2
) -> None:
    """Write a square GeoTIFF of farmland: uint16, tiled, DEFLATE with predictor 2, with a slanted nodata outline.

    The bands are the first `bands` of red, green, blue, nir and rededge, named in their descriptions. The same
    arguments give the same pixels. Memory doesn't depend on the size.
    """
    if not 1 <= bands <= len(BANDS):
        raise ValueError(f"an orthophoto has 1 to {len(BANDS)} bands")
    scene = Farmland(seed)
    options = _creation_options(size_px=size_px, bands=bands, threads=threads)
    with rasterio.Env(GDAL_CACHEMAX=CACHE_MB), rasterio.open(path, "w", **options) as target:
        for number, name in enumerate(BANDS[:bands], start=1):
            target.set_band_description(number, name)
        target.update_tags(
            TIFFTAG_SOFTWARE="Aerotask orthophoto", TIFFTAG_IMAGEDESCRIPTION="made-up farmland"
        )
        writing = threading.Lock()

        @contextmanager
        def worker() -> Iterator[Callable[[Window], None]]:
            def write_block(window: Window) -> None:
                block = orthophoto_pixels(scene, window, size_px=size_px, bands=bands)
                with writing:
                    target.write(block, window=RasterioWindow.from_slices(*window))

            yield write_block

        blocks = windows((size_px, size_px), (BLOCK_PX, BLOCK_PX))
        run_in_threads(blocks, threads=threads, worker=worker, on_result=lambda _: None)


def orthophoto_pixels(scene: Farmland, window: Window, *, size_px: int, bands: int) -> NDArray[np.uint16]:
    """The orthophoto's pixels in a window, (bands, rows, cols)."""
    top, left = window[0].start, window[1].start
    shape = shape_of(window)
    inside = _inside_outline(window, size_px, seed=scene.seed)
    if not inside.any():
        return np.zeros((bands, *shape), np.uint16)
    reflectance = scene.reflectance(top, left, shape)[:bands]
    random = np.random.default_rng([scene.seed, top, left])
    reflectance += random.standard_normal(reflectance.shape, np.float32) * np.float32(_NOISE_SIGMA)
    pixels = np.clip(reflectance * FULL_REFLECTANCE, 1, 65535).astype(np.uint16)
    pixels *= inside
    return pixels


def _creation_options(*, size_px: int, bands: int, threads: int) -> dict[str, Any]:
    return {
        "driver": "GTiff",
        "width": size_px,
        "height": size_px,
        "count": bands,
        "dtype": "uint16",
        "nodata": NODATA,
        "crs": CRS,
        "transform": from_origin(*ORIGIN_M, PIXEL_M, PIXEL_M),
        "tiled": True,
        "blockxsize": BLOCK_PX,
        "blockysize": BLOCK_PX,
        "interleave": "pixel",
        "photometric": "MINISBLACK",
        "compress": "deflate",
        "predictor": 2,
        "zlevel": DEFLATE_LEVEL,
        "num_threads": threads,
        "bigtiff": "IF_SAFER",
    }


def _inside_outline(window: Window, size_px: int, *, seed: int) -> NDArray[np.bool_]:
    """The area covered by the flight: a slanted rectangle with frayed edges."""
    top, left = window[0].start, window[1].start
    rows = np.arange(top, window[0].stop, dtype=np.float32)[:, None] / size_px - np.float32(0.5)
    cols = np.arange(left, window[1].stop, dtype=np.float32)[None, :] / size_px - np.float32(0.5)
    cos, sin = np.float32(math.cos(_OUTLINE_ANGLE)), np.float32(math.sin(_OUTLINE_ANGLE))
    area = Area(top, left, shape_of(window))
    frayed = np.float32(0.003) * smooth_noise(area, step_px=max(size_px // 90, 8), salt=seed + 99)
    across, along = np.abs(cols * cos + rows * sin), np.abs(rows * cos - cols * sin)
    inside: NDArray[np.bool_] = np.maximum(across, along) + frayed < np.float32(0.42)
    return inside
