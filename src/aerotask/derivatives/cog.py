"""COG builder: a raster as a cloud-optimised GeoTIFF in Web Mercator, aligned to the web maps' tile grid."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rasterio.enums import ColorInterp
from rasterio.windows import Window as RasterioWindow

from aerotask.derivatives.statistics import percentiles_of, raster_statistics
from aerotask.domain.errors import InvalidInput, TaskFailed
from aerotask.raster.gdal_copy import copy_raster
from aerotask.raster.io import GDAL_ERRORS, open_raster
from aerotask.raster.tiff.codec import DEFLATE_LEVEL
from aerotask.raster.windows import windows

TILE_PX = 256
JPEG_QUALITY = 90
CACHE_MB = 96
"""GDAL's block cache while warping; the default is 5 % of the machine's memory."""
PERCENTS = (2, 98)

_SAMPLE_PX = 1024
_CHECKED_PX = 2048
_WEB_MERCATOR = 3857
_COLOURS = {ColorInterp.red, ColorInterp.green, ColorInterp.blue}


@dataclass(frozen=True, slots=True)
class _SourceInfo:
    """Source properties that the COG must keep: the types of its first `colours` bands, those before any alpha."""

    dtypes: tuple[str, ...]
    colours: int


def build_cog(
    source: Path, target: Path, *, threads: int, on_progress: Callable[[float], None]
) -> dict[str, Any]:
    """Write the raster at `source` as a COG at `target`, which must not exist; returns statistics and georeference.

    GDAL's warp can't be interrupted: if `on_progress` raises, it continues in its thread until the process ends.

    Raises:
        InvalidInput: the raster is not georeferenced (`not-georeferenced`), or can't be read (the codes are those of
            `raster.io.open_raster`).
        OSError: the disk is full (`ENOSPC`).
        TaskFailed: the warp failed (`cog-failed`), or what was written doesn't read back (`derivative-damaged`).
    """
    statistics = raster_statistics(
        source, threads=threads, on_progress=lambda share: on_progress(0.3 * share)
    )
    with open_raster(source) as opened:
        _check_source(opened)
        _warp_to(opened, target, _options(opened, threads), lambda share: on_progress(0.3 + 0.5 * share))
        info = _SourceInfo(opened.dtypes, sum(colour != ColorInterp.alpha for colour in opened.colorinterp))
    sample = _check(target, info, lambda share: on_progress(0.8 + 0.2 * share))
    bands = [
        band.to_properties() | {"percentiles": percentiles}
        for band, percentiles in zip(
            statistics[: info.colours], percentiles_of(sample, PERCENTS), strict=True
        )
    ]
    return {"bands": bands, **_georeference(target)}


def _check_source(opened: Any) -> None:
    if not opened.crs or opened.transform.is_identity:
        raise InvalidInput(
            "The raster is not georeferenced, so it can't be shown on a map; assign a coordinate system and bounds "
            "(gdal_translate -a_srs -a_ullr).",
            code="not-georeferenced",
        )
    if any(np.dtype(dtype).kind == "c" for dtype in opened.dtypes):
        raise InvalidInput(
            "The raster has complex numbers, which maps can't show.", code="unsupported-layout"
        )


def _options(opened: Any, threads: int) -> dict[str, Any]:
    """GDAL options: lossless, except for photographs (8-bit red, green and blue without a nodata value)."""
    colours = list(opened.colorinterp)
    photograph = (
        set(opened.dtypes) == {"uint8"}
        and set(colours[:3]) == _COLOURS
        and colours[3:] in ([], [ColorInterp.alpha])
        and opened.nodata is None
    )
    with_palette = ColorInterp.palette in colours
    compression: dict[str, Any] = (
        {"compress": "JPEG", "quality": JPEG_QUALITY}
        if photograph
        else {"compress": "DEFLATE", "level": DEFLATE_LEVEL, "predictor": "YES"}
    )
    return compression | {
        "driver": "COG",
        "tiling_scheme": "GoogleMapsCompatible",
        "blocksize": TILE_PX,
        "num_threads": threads,
        # Palette indices are classes: averaging two of them would produce a third, unrelated one.
        "warp_resampling": "NEAREST" if with_palette else "BILINEAR",
        "overview_resampling": "NEAREST" if with_palette else "AVERAGE",
        "bigtiff": "IF_SAFER",
    }


def _warp_to(
    opened: Any, target: Path, options: dict[str, Any], on_progress: Callable[[float], None]
) -> None:
    expected_bytes = max(Path(opened.name).stat().st_size, 1)
    written_bytes = 0

    def report() -> None:
        nonlocal written_bytes
        written_bytes = max(written_bytes, _written_bytes(target))
        on_progress(1 - math.exp(-written_bytes / expected_bytes))

    try:
        copy_raster(opened, target, options, on_tick=report, cache_mb=CACHE_MB)
    except GDAL_ERRORS as error:
        raise TaskFailed(
            f"GDAL could not warp the raster to Web Mercator ({str(error)[:200]}).",
            code="cog-failed",
        ) from error


def _written_bytes(target: Path) -> int:
    """Size of the target and of GDAL's temporary files beside it (the warped image, its overviews)."""
    total = 0
    for file in target.parent.glob(f"{target.name}*"):
        with suppress(FileNotFoundError):
            total += file.stat().st_size
    return total


def _check(target: Path, info: _SourceInfo, on_progress: Callable[[float], None]) -> Any:
    """Decode every pixel again and check the layout; returns a reduced view of the whole.

    Raises:
        TaskFailed: the COG can't be read back or has another layout (`derivative-damaged`).
    """
    try:
        with open_raster(target) as made:
            parts = list(windows((made.height, made.width), (_CHECKED_PX, _CHECKED_PX)))
            for done, part in enumerate(parts, start=1):
                made.read(window=RasterioWindow.from_slices(*part))
                on_progress(done / len(parts))
            sound = (
                made.tags(ns="IMAGE_STRUCTURE").get("LAYOUT") == "COG"
                and made.crs.to_epsg() == _WEB_MERCATOR
                and made.block_shapes[0] == (TILE_PX, TILE_PX)
                and made.dtypes[: info.colours] == info.dtypes[: info.colours]
            )
            level = _sample_level(made)
        with open_raster(target, overview_level=level) as small:
            sample = small.read(indexes=list(range(1, info.colours + 1)), masked=True)
    except InvalidInput as error:
        raise TaskFailed("The COG can't be read back.", code="derivative-damaged") from error
    if not sound:
        raise TaskFailed("The COG reads back with an unexpected layout.", code="derivative-damaged")
    return sample


def _sample_level(made: Any) -> int | None:
    """The first overview that is small enough to be read whole; None if the raster itself is."""
    longest = max(made.width, made.height)
    if longest <= _SAMPLE_PX:
        return None
    factors = made.overviews(1)
    fitting = [level for level, factor in enumerate(factors) if longest / factor <= _SAMPLE_PX]
    return fitting[0] if fitting else len(factors) - 1


def _georeference(target: Path) -> dict[str, Any]:
    with open_raster(target) as made:
        return {
            "width": made.width,
            "height": made.height,
            "compression": str(made.tags(ns="IMAGE_STRUCTURE").get("COMPRESSION", "")),
            "maxZoom": int(made.tags(ns="TILING_SCHEME").get("ZOOM_LEVEL", -1)),
            "bounds": [float(value) for value in made.bounds],
        }
