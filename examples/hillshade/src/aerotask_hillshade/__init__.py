"""Third-party tool for Aerotask: shaded relief of an elevation raster."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from aerotask.sdk import (
    DatasetView,
    DryRun,
    EntryPath,
    InvalidInput,
    Plan,
    QuotaClass,
    RunContext,
    Tool,
    ToolParams,
)

Floats = npt.NDArray[np.float32]

STRIP_ROWS = 256
MEMORY_BYTES = 512 * 1024 * 1024
LOW_SUN_DEG = 10


class HillshadeParams(ToolParams):
    """The raster and the direction of the light."""

    path: EntryPath
    """A single-band elevation raster, its heights in the unit of its CRS."""
    azimuth_deg: float = Field(315.0, ge=0, le=360)
    """Direction of the light, clockwise from north."""
    altitude_deg: float = Field(45.0, gt=0, le=90)
    """Height of the light above the horizon."""


class Hillshade(Tool[HillshadeParams]):
    """Horn's slope and aspect, lit from one direction."""

    id, version, title = "hillshade", "1", "Hillshade"
    description = "Shaded relief of an elevation raster, as 8-bit greys with 0 for nodata."
    artifact_suffix = ".tif"
    quota_class = QuotaClass.BULK

    def preload(self) -> None:
        """Import the libraries of `run` and `preview` before the fork."""
        import rasterio  # noqa: F401, PLC0415
        from PIL import Image  # noqa: F401, PLC0415

    def check(self, params: HillshadeParams, dataset: DatasetView) -> None:
        """Refuse indexed rasters with more than one band."""
        entry = dataset.file(params.path)
        if entry.indexed:
            _check_bands(len(entry.properties.get("bands", [])))

    def plan(self, params: HillshadeParams, dataset: DatasetView) -> Plan:
        """One byte of output for each pixel."""
        properties = dataset.file(params.path).properties
        pixels = int(properties.get("width", 0)) * int(properties.get("height", 0))
        return Plan(estimated_output_bytes=pixels, memory_bytes=MEMORY_BYTES, reads=(params.path,))

    def dry_run(self, params: HillshadeParams, dataset: DatasetView) -> DryRun:
        """Warn of a low sun, and name the size of the output."""
        properties = dataset.file(params.path).properties
        warnings = (
            ("Below 10 degrees, most slopes are in the dark.",) if params.altitude_deg < LOW_SUN_DEG else ()
        )
        return DryRun(warnings, {"width": properties.get("width"), "height": properties.get("height")})

    def preview(self, params: HillshadeParams, inputs: Mapping[str, Path], *, longest_px: int) -> bytes:
        """The hillshade of a thinned raster."""
        import rasterio  # noqa: PLC0415  not in the API process
        from PIL import Image  # noqa: PLC0415

        with rasterio.open(inputs[params.path]) as source:
            _check_bands(source.count)
            factor = max(source.height, source.width, longest_px) / longest_px
            shape_yx = (max(round(source.height / factor), 1), max(round(source.width / factor), 1))
            heights = source.read(1, out_shape=shape_yx, masked=True).astype("float32").filled(np.nan)
            cell_yx = (abs(source.transform.e) * factor, abs(source.transform.a) * factor)
        grey = shade(heights, cell_yx, params.azimuth_deg, params.altitude_deg)
        content = io.BytesIO()
        Image.fromarray(grey).save(content, "WEBP")
        return content.getvalue()

    def run(self, params: HillshadeParams, ctx: RunContext) -> None:
        """Shade strip by strip, each read with one row of its neighbours."""
        import rasterio  # noqa: PLC0415  not in the API process
        from rasterio.windows import Window  # noqa: PLC0415

        target = ctx.workdir / "hillshade.tif"
        with rasterio.open(ctx.input(params.path)) as source:
            _check_bands(source.count)
            profile: dict[str, Any] = {
                "driver": "GTiff",
                "width": source.width,
                "height": source.height,
                "count": 1,
                "dtype": "uint8",
                "nodata": 0,
                "crs": source.crs,
                "transform": source.transform,
                "compress": "deflate",
            }
            cell_yx = (abs(source.transform.e), abs(source.transform.a))
            ctx.log(f"Read {source.width}×{source.height} pixels of {cell_yx[1]:g}×{cell_yx[0]:g} units.")
            with rasterio.open(target, "w", **profile) as shaded:
                for row in range(0, source.height, STRIP_ROWS):
                    rows = min(STRIP_ROWS, source.height - row)
                    above, below = min(row, 1), min(source.height - row - rows, 1)
                    window = Window(0, row - above, source.width, above + rows + below)
                    heights = source.read(1, window=window, masked=True).astype("float32").filled(np.nan)
                    grey = shade(heights, cell_yx, params.azimuth_deg, params.altitude_deg)
                    shaded.write(grey[above : above + rows], 1, window=Window(0, row, source.width, rows))
                    ctx.progress((row + rows) / source.height, "shading")
        ctx.publish(target, name="hillshade.tif", media_type="image/tiff")
        ctx.result({"azimuthDeg": params.azimuth_deg, "altitudeDeg": params.altitude_deg})


def _check_bands(count: int) -> None:
    if count != 1:
        raise InvalidInput(
            f"Hillshade needs a raster with one band; this one has {count}.", code="one-band-only"
        )


def shade(
    heights: Floats, cell_yx: tuple[float, float], azimuth_deg: float, altitude_deg: float
) -> npt.NDArray[np.uint8]:
    """Greys from 1 (dark) to 255 of heights `(rows, cols)`; 0 where the height or a neighbour's is NaN.

    Slopes by the 3×3 weights of Horn, "Hill shading and the reflectance map" (1981), with the edge repeated.
    """
    z = np.pad(heights, 1, mode="edge")
    east = z[:-2, 2:] + 2 * z[1:-1, 2:] + z[2:, 2:]
    west = z[:-2, :-2] + 2 * z[1:-1, :-2] + z[2:, :-2]
    south = z[2:, :-2] + 2 * z[2:, 1:-1] + z[2:, 2:]
    north = z[:-2, :-2] + 2 * z[:-2, 1:-1] + z[:-2, 2:]
    eastward = (east - west) / (8 * cell_yx[1])
    northward = (north - south) / (8 * cell_yx[0])
    azimuth, altitude = np.radians(azimuth_deg), np.radians(altitude_deg)
    # The cosine between the light and the surface's normal (-dz/dx, -dz/dy, 1).
    light = np.sin(altitude) - np.cos(altitude) * (eastward * np.sin(azimuth) + northward * np.cos(azimuth))
    cosine = light / np.sqrt(1 + eastward**2 + northward**2)
    with np.errstate(invalid="ignore"):
        grey = np.clip(np.rint(254 * np.clip(cosine, 0, 1)) + 1, 1, 255)
        # Horn's weights leave the centre out, so a missing height shows only in its neighbours' slopes.
        return np.where(np.isnan(grey) | np.isnan(heights), 0, grey).astype(np.uint8)
