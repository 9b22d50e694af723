"""raster-export: an index, a composite or a band of a raster as a GeoTIFF that anybody can look at.

The API imports this module to check and plan; GDAL is loaded by `run` alone.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from aerotask.domain.paths import MAX_NAME_BYTES, base_name
from aerotask.raster.colormaps import DEFAULT_COLORMAP
from aerotask.raster.export.options import ExportFormat, ExportOptions, parse_request
from aerotask.raster.export.plan import ExportPlan, make_recipe
from aerotask.raster.profile import RasterProfile
from aerotask.sdk import (
    Access,
    DatasetView,
    EntryPath,
    EntryView,
    FileName,
    Plan,
    RunContext,
    Tool,
    ToolParams,
)
from aerotask.tools.indexed_raster import known_profile

MEMORY_BYTES = 1024**3
"""Held by a limit on the child; two threads need about 100 MiB, eight with large blocks several times that."""

# Bytes for each pixel of the result, overviews included: more than orthophotos take, less than noise would.
_BYTES_PER_PX = {"palette": 1.0, "colormap": 2.0, "composite": 4.0}
_BYTES_PER_VALUE = 5.5
_SMALLEST_ESTIMATE_BYTES = 64 * 1024
_SUFFIX = "_export.tif"


class RasterExportParams(ToolParams):
    """What to show of a raster, and how."""

    path: EntryPath
    """The raster to export: a GeoTIFF, or a plain TIFF, PNG, JPEG or JPEG 2000."""

    formula: str | None = Field(None, min_length=1, max_length=512)
    """An index by its id (NDVI, VARI, …, in any case), or arithmetic over bands such as `(N-R)/(N+R)` or `b4/b1`.
    Comes before `bands` and `preset`."""

    band_filter: str | None = Field(None, min_length=1, max_length=64)
    """What each band shows, in their order: R, G, B, N (near infrared), Re (red edge), T (thermal); any other letter
    skips a band. `RGBN` and `BGRReN`, for example. Left out, the file's own metadata tell."""

    colormap: str = Field(DEFAULT_COLORMAP, min_length=1, max_length=64)
    """The colours of a formula or of a single band, by name; `none` gives the values themselves as Float32."""

    rescale: str | None = Field(None, min_length=1, max_length=256)
    """The values that the first and the last colour stand for: `min,max`, or three such pairs separated by `;` for
    three bands. Left out: the formula's own range, else the 2nd to 98th percentile."""

    bands: str | None = Field(None, min_length=1, max_length=64)
    """Three bands to show as red, green and blue (`3,2,1`), or one to colour; counted from 1."""

    preset: str | None = Field(None, min_length=1, max_length=64)
    """A ready choice: true-color, false-color-ir, agriculture, geology, moisture, urban, red-edge, swir-composite,
    ndvi, ndwi, gndvi, ndre, ironbow, whitehot or blackhot."""

    file_name: FileName | None = None
    """The name of the download; left out, the raster's name with `_export.tif`."""

    format: Literal["gtiff", "cog", "palette"] = "gtiff"
    """`gtiff`: tiled, with overviews. `cog`: cloud-optimised. `palette`: one band with a colour table, the smallest."""

    def request(self) -> ExportOptions:
        """The choices, each checked by itself.

        Raises:
            InvalidInput: one is malformed or names something unknown.
        """
        return parse_request(
            formula=self.formula,
            band_filter=self.band_filter,
            colormap=self.colormap,
            rescale=self.rescale,
            bands=self.bands,
            preset=self.preset,
            format=self.format,
        )

    def download_name(self) -> str:
        """The name under which the result is published."""
        if self.file_name:
            return self.file_name
        stem = base_name(self.path).rpartition(".")[0] or base_name(self.path)
        room = MAX_NAME_BYTES - len(_SUFFIX)
        return stem.encode()[:room].decode(errors="ignore") + _SUFFIX


class RasterExport(Tool[RasterExportParams]):
    """Exports vegetation, water and temperature indices, band composites and single bands."""

    id, version, title = "raster-export", "1", "Export raster (GeoTIFF)"
    description = "Computes an index such as NDVI, or shows bands of a raster in colour, and gives a GeoTIFF on the same grid."
    access = Access.READ
    artifact_suffix = ".tif"

    def preload(self) -> None:
        """Load GDAL and the pipeline before the fork."""
        import aerotask.raster.export.run  # noqa: F401, PLC0415  loads GDAL, which the API must not

    def check(self, params: RasterExportParams, dataset: DatasetView) -> None:
        """Refuse malformed choices and, once the raster is indexed, those that it can't fulfil."""
        request = params.request()
        profile = _profile(dataset.file(params.path))
        if profile:
            make_recipe(request, profile)

    def plan(self, params: RasterExportParams, dataset: DatasetView) -> Plan:
        """Estimate the size of the result from the raster's, or from its file's before it is indexed."""
        entry = dataset.file(params.path)
        profile = _profile(entry)
        estimate = (
            _estimate_bytes(make_recipe(params.request(), profile), profile)
            if profile
            else 2 * entry.size_bytes
        )
        return Plan(
            estimated_output_bytes=max(estimate, _SMALLEST_ESTIMATE_BYTES),
            memory_bytes=MEMORY_BYTES,
            reads=(params.path,),
        )

    def run(self, params: RasterExportParams, ctx: RunContext) -> None:
        """Check once more, on the real file, and export."""
        from aerotask.raster.export.run import run_export  # noqa: PLC0415  loads GDAL, which the API must not

        run_export(params.path, params.request(), params.download_name(), ctx)


def _profile(entry: EntryView) -> RasterProfile | None:
    return known_profile(entry, " that can be exported; name a TIFF, PNG, JPEG or JPEG 2000.")


def _estimate_bytes(recipe: ExportPlan, profile: RasterProfile) -> int:
    pixels = profile.width * profile.height
    if recipe.gives_values:
        return round(pixels * _BYTES_PER_VALUE * max(len(recipe.channels), 1))
    if recipe.formula is None:
        return round(pixels * _BYTES_PER_PX["composite"])
    return round(pixels * _BYTES_PER_PX["palette" if recipe.format is ExportFormat.PALETTE else "colormap"])
