"""Tool `raster-export`: an index, a composite or a band of a raster as a GeoTIFF.

The API imports this module to check and plan; only `run` loads GDAL.
"""

from __future__ import annotations

from typing import Any, Literal

from aerotask.domain.paths import MAX_NAME_BYTES, base_name
from aerotask.raster.colormaps import DEFAULT_COLORMAP
from aerotask.raster.export.options import ColormapName, DisplayOptions, ExportFormat, ExportOptions, Unscale
from aerotask.raster.export.plan import ExportPlan, make_plan
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
)
from aerotask.tools.indexed_raster import RasterParams, known_profile, with_side_files

MEMORY_BYTES = 1024**3
"""Memory limit of the child; two threads need about 100 MiB, eight with large blocks several times that."""

# Bytes per pixel of the result with overviews: more than orthophotos take, less than noise would.
_BYTES_PER_PX = {"palette": 1.0, "colormap": 2.0, "composite": 4.0}
_BYTES_PER_VALUE = 5.5
_SMALLEST_ESTIMATE_BYTES = 64 * 1024
_SUFFIX = "_export.tif"


class _SourceParams(RasterParams):
    """Raster to export; a base class of its own, so that `path` is the first parameter."""

    path: EntryPath
    """The raster to export: a GeoTIFF, or a plain TIFF, PNG, JPEG or JPEG 2000."""


class RasterExportParams(DisplayOptions, _SourceParams):
    """Parameters of raster-export."""

    colormap: ColormapName | None = None
    """The colours of a formula or of a single band, by name; `none` gives the values themselves as Float32. Left out:
    `rdylgn` for a formula, greys for a band, and its own for a band with a colour table."""

    unscale: Unscale = "auto"
    """Whether physical values are computed, number × scale + offset: `auto`, where the file gives scale or offset;
    `true`; or `false`, for the numbers in the file."""

    file_name: FileName | None = None
    """The name of the download; left out, the raster's name with `_export.tif`."""

    format: Literal["gtiff", "cog", "palette"] = "gtiff"
    """`gtiff`: tiled, with overviews. `cog`: cloud-optimised. `palette`: one band with a colour table, the smallest."""

    def normalised(self) -> dict[str, Any]:
        """As in the base class, with a formula's default colormap: who names it gets the same task as who doesn't."""
        params = super().normalised()
        if self.formula is not None and self.colormap is None:
            params["colormap"] = DEFAULT_COLORMAP
        return params

    def options(self) -> ExportOptions:
        """The parsed options.

        Raises:
            InvalidInput: one is malformed or names something unknown.
        """
        return self.parsed(format=ExportFormat(self.format))

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
    description = "Computes an index such as NDVI, or shows bands of a raster in colour, and writes a GeoTIFF on the same grid."
    access = Access.READ
    artifact_suffix = ".tif"

    def preload(self) -> None:
        """Load GDAL and the pipeline before the fork."""
        import aerotask.raster.export.run  # noqa: F401, PLC0415  loads GDAL, which the API must not

    def check(self, params: RasterExportParams, dataset: DatasetView) -> None:
        """Check the options and, once the raster is indexed, whether it has what they need."""
        options = params.options()
        profile = _profile(dataset.file(params.path))
        if profile:
            make_plan(options, profile)

    def plan(self, params: RasterExportParams, dataset: DatasetView) -> Plan:
        """Estimate the output size from the raster's pixels, or from its file size before it is indexed."""
        entry = dataset.file(params.path)
        profile = _profile(entry)
        estimate = (
            _estimate_bytes(make_plan(params.options(), profile), profile)
            if profile
            else 2 * entry.size_bytes
        )
        return Plan(
            estimated_output_bytes=max(estimate, _SMALLEST_ESTIMATE_BYTES),
            memory_bytes=MEMORY_BYTES,
            reads=with_side_files((params.path,), dataset),
        )

    def run(self, params: RasterExportParams, ctx: RunContext) -> None:
        """Check again, on the file itself, and export."""
        from aerotask.raster.export.run import run_export  # noqa: PLC0415  loads GDAL, which the API must not

        run_export(params.path, params.options(), params.download_name(), ctx)


def _profile(entry: EntryView) -> RasterProfile | None:
    return known_profile(entry, " that can be exported; name a TIFF, PNG, JPEG or JPEG 2000.")


def _estimate_bytes(plan: ExportPlan, profile: RasterProfile) -> int:
    pixels = profile.width * profile.height
    if plan.gives_values:
        return round(pixels * _BYTES_PER_VALUE * max(len(plan.channels), 1))
    if plan.formula is None:
        return round(pixels * _BYTES_PER_PX["composite"])
    return round(pixels * _BYTES_PER_PX["palette" if plan.format is ExportFormat.PALETTE else "colormap"])
