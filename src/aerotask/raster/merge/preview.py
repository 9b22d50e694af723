"""Preview of a merge as a small image."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rasterio.enums import Resampling
from rasterio.windows import Window as RasterioWindow

from aerotask.raster.export.stretch import PERCENTILES
from aerotask.raster.io import open_raster
from aerotask.raster.merge.plan import MergePlan
from aerotask.raster.pixels import native_nodata

MEDIA_TYPE = "image/webp"
LONGEST_PX = 1024
QUALITY = 80
_CHOICES = (("nir", "red", "green"), ("red", "green", "blue"))


def preview_merge(plan: MergePlan, *, longest_px: int = LONGEST_PX) -> bytes:
    """A WebP of three bands after their shift, its longer side at most `longest_px`.

    Near infrared, red and green are shown as red, green and blue, else the true colours, else the first bands;
    each stretched from its 2nd to its 98th percentile. Pixels without a value in any of them are transparent.
    Reads an overview where there is one, else some of the rows and columns.

    Raises:
        InvalidInput: a file can't be read (`damaged-raster`).
    """
    rows, cols = plan.shape_yx
    share = min(longest_px / max(rows, cols), 1.0)
    shape = (max(round(rows * share), 1), max(round(cols * share), 1))
    chosen = shown_bands([band.name for band in plan.bands])
    planes = {number: _read(plan, number, shape) for number in set(chosen)}
    known = np.logical_and.reduce([_has_value(plan, number, plane) for number, plane in planes.items()])
    image = np.zeros((*shape, 4), np.uint8)
    for channel, number in enumerate(chosen):
        image[..., channel] = _stretched(planes[number], known)
    image[..., 3] = np.where(known, 255, 0)
    content = io.BytesIO()
    Image.fromarray(image).save(content, "WEBP", quality=QUALITY, method=2)
    return content.getvalue()


def shown_bands(names: Sequence[str]) -> tuple[int, int, int]:
    """The indexes of the bands that are shown as red, green and blue."""
    for choice in _CHOICES:
        if set(choice) <= set(names):
            return names.index(choice[0]), names.index(choice[1]), names.index(choice[2])
    last = len(names) - 1
    return 0, min(1, last), min(2, last)


def _read(plan: MergePlan, number: int, shape: tuple[int, int]) -> NDArray[Any]:
    down, right = plan.offsets[number]
    area = RasterioWindow(right, down, plan.shape_yx[1], plan.shape_yx[0])
    with open_raster(plan.sources[number].file) as opened:
        plane: NDArray[Any] = opened.read(1, window=area, out_shape=shape, resampling=Resampling.nearest)
    return plane


def _has_value(plan: MergePlan, number: int, plane: NDArray[Any]) -> NDArray[np.bool_]:
    nodata = native_nodata(plan.sources[number].profile.bands[0].nodata, plane.dtype)
    has_value: NDArray[np.bool_] = np.isfinite(plane)
    return has_value if nodata is None else has_value & (plane != nodata)


def _stretched(plane: NDArray[Any], known: NDArray[np.bool_]) -> NDArray[np.uint8]:
    values = plane[known]
    if not values.size:
        return np.zeros(plane.shape, np.uint8)
    low, high = (float(limit) for limit in np.percentile(values, PERCENTILES))
    span = high - low if high > low and math.isfinite(high - low) else 1.0
    shares = (np.where(known, plane, low).astype(np.float64) - low) / span
    brightness: NDArray[np.uint8] = (np.clip(shares, 0, 1) * 255).astype(np.uint8)
    return brightness
