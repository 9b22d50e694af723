"""Preview of an exported raster as a small PNG."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
from rasterio.enums import Resampling

from aerotask.raster.io import GDAL_OPTIONS, open_raster, without_georeference_warnings


def write_preview(source: Path, target: Path, *, longest_px: int = 1024) -> None:
    """Write the RGBA raster at `source` as a PNG whose longer side has at most `longest_px` pixels.

    Overviews are used if there are any, so that little is read.

    Raises:
        ValueError: the raster isn't four bands of bytes.
        InvalidInput: it can't be read.
    """
    with open_raster(source) as opened:
        if opened.count != 4 or set(opened.dtypes) != {"uint8"}:
            raise ValueError("a preview needs a raster with red, green, blue and alpha in bytes")
        share = min(longest_px / max(opened.width, opened.height), 1)
        rows, cols = (max(round(size * share), 1) for size in (opened.height, opened.width))
        pixels = opened.read(out_shape=(4, rows, cols), resampling=Resampling.average)
    pixels[3] = np.where(pixels[3] >= 128, 255, 0)
    options = {"driver": "PNG", "width": cols, "height": rows, "count": 4, "dtype": "uint8", "zlevel": 9}
    with (
        rasterio.Env(**GDAL_OPTIONS),
        without_georeference_warnings(),
        rasterio.open(target, "w", **options) as image,
    ):
        image.write(pixels)
