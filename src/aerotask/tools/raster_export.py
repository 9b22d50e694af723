"""Tool `raster-export`: an index, a composite or a band of a raster as a GeoTIFF.

The API imports this module to check and plan; only `run` loads GDAL.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from aerotask.derivatives.sources import paths_beside
from aerotask.domain.paths import MAX_NAME_BYTES, base_name
from aerotask.raster.colormaps import DEFAULT_COLORMAP
from aerotask.raster.export.area import WGS84, AreaOptions, CutlineEntry, parse_box
from aerotask.raster.export.cutline_geojson import GeoJson, parse_geojson
from aerotask.raster.export.options import (
    ColormapName,
    DataType,
    DisplayOptions,
    ExportFormat,
    ExportOptions,
    Unscale,
    check_data_type,
)
from aerotask.raster.export.plan import ExportPlan, make_plan
from aerotask.raster.profile import RasterProfile
from aerotask.raster.windows import shape_of
from aerotask.sdk import (
    Access,
    DatasetView,
    EntryPath,
    EntryView,
    FileName,
    InvalidInput,
    Plan,
    RunContext,
    Tool,
)
from aerotask.tools.indexed_area import check_cutline, known_area
from aerotask.tools.indexed_raster import RasterParams, known_profile

MEMORY_BYTES = 1024**3
"""Memory limit of the child; two threads need about 100 MiB, eight with large blocks several times that."""

# Bytes per pixel of the result with overviews: more than orthophotos take, less than noise would.
_BYTES_PER_PX = {"palette": 1.0, "colormap": 2.0, "composite": 4.0}
_BYTES_PER_VALUE = {"float32": 5.5, "int16": 2.75}
_SMALLEST_ESTIMATE_BYTES = 64 * 1024
_SUFFIX = "_export.tif"


CutlineParam = Annotated[
    Annotated[EntryPath, Tag("path")] | Annotated[GeoJson, Tag("geojson")],
    Discriminator(lambda value: "geojson" if isinstance(value, dict) else "path"),
]
"""The path of a vector entry, or a GeoJSON object; only the errors of the one that is given are told."""


class _SourceParams(RasterParams):
    """Raster to export; a base class of its own, so that `path` is the first parameter."""

    path: EntryPath
    """The raster to export: a GeoTIFF, or a plain TIFF, PNG, JPEG or JPEG 2000."""


class RasterExportParams(DisplayOptions, _SourceParams):
    """Parameters of raster-export."""

    colormap: ColormapName | None = None
    """The colours of a formula or of a single band, by name; `none` gives the values themselves. Left out:
    `rdylgn` for a formula, greys for a band, and its own for a band with a colour table."""

    unscale: Unscale = "auto"
    """Whether physical values are computed, number × scale + offset: `auto`, where the file gives scale or offset;
    `true`; or `false`, for the numbers in the file."""

    file_name: FileName | None = None
    """The name of the download; left out, the raster's name with `_export.tif`."""

    format: Literal["gtiff", "cog", "palette"] = "gtiff"
    """`gtiff`: tiled, with overviews. `cog`: cloud-optimised. `palette`: one band with a colour table, the smallest."""

    data_type: DataType = "float32"
    """Type of the values of colormap `none`: `float32`, or `int16` with scale and offset, half as large, for a formula or a
    single band."""

    bbox: Annotated[tuple[float, float, float, float], Field(min_length=4, max_length=4)] | None = None
    """Exports only the pixels that this box covers: smallest x, smallest y, largest x, largest y. In degrees these are west,
    south, east, north, and a west above the east crosses the antimeridian."""

    bbox_crs: Annotated[str, Field(pattern="^[A-Za-z]{2,16}:[0-9A-Za-z]{1,16}$")] = WGS84
    """The coordinate system of `bbox`, such as `EPSG:32632`; x is always the longitude or easting."""

    cutline: CutlineParam | None = None
    """Exports only the pixels within polygons: the path of a vector entry (GeoJSON, GeoPackage, Shapefile, KML …), or a
    GeoJSON object in longitudes and latitudes."""

    def entry_paths(self) -> tuple[str, ...]:
        """The raster and the cutline's entry, with the side files of a Shapefile."""
        named = super().entry_paths()
        return (*named, *paths_beside(self.cutline)) if isinstance(self.cutline, str) else named

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
        options = self.parsed(format=ExportFormat(self.format))
        options = replace(options, data_type=self.data_type, area=self._area())
        check_data_type(options)
        return options

    def _area(self) -> AreaOptions | None:
        if self.bbox is not None and self.cutline is not None:
            raise InvalidInput("Give 'bbox' or 'cutline', not both.", code="area-conflict")
        if self.bbox is not None:
            return parse_box(self.bbox, self.bbox_crs)
        if isinstance(self.cutline, str):
            return CutlineEntry(self.cutline)
        return None if self.cutline is None else parse_geojson(self.cutline)

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
        if options.area:
            check_cutline(options.area, dataset)
        if profile:
            _planned(options, profile, dataset)

    def plan(self, params: RasterExportParams, dataset: DatasetView) -> Plan:
        """Estimate the output size from the raster's pixels, or from its file size before it is indexed."""
        entry = dataset.file(params.path)
        profile = _profile(entry)
        estimate = (
            _estimate_bytes(_planned(params.options(), profile, dataset), profile)
            if profile
            else 2 * entry.size_bytes
        )
        beside = (path for path in params.entry_paths() if path in dataset.entries)
        return Plan(
            estimated_output_bytes=max(estimate, _SMALLEST_ESTIMATE_BYTES),
            memory_bytes=MEMORY_BYTES,
            reads=tuple(dict.fromkeys((params.path, *beside))),
        )

    def run(self, params: RasterExportParams, ctx: RunContext) -> None:
        """Check again, on the file itself, and export."""
        from aerotask.raster.export.run import run_export  # noqa: PLC0415  loads GDAL, which the API must not

        run_export(params.path, params.options(), params.download_name(), ctx)


def _profile(entry: EntryView) -> RasterProfile | None:
    return known_profile(entry, " that can be exported; name a TIFF, PNG, JPEG or JPEG 2000.")


def _planned(options: ExportOptions, profile: RasterProfile, dataset: DatasetView) -> ExportPlan:
    """The plan for the indexed raster, with the area as far as the index knows it."""
    plan = make_plan(options, profile)
    return replace(plan, area=known_area(options.area, profile, dataset)) if options.area else plan


def _estimate_bytes(plan: ExportPlan, profile: RasterProfile) -> int:
    rows, cols = shape_of(plan.window_of(profile))
    pixels = rows * cols
    if plan.gives_values:
        return round(pixels * _BYTES_PER_VALUE[plan.data_type] * max(len(plan.channels), 1))
    if plan.formula is None:
        return round(pixels * _BYTES_PER_PX["composite"])
    return round(pixels * _BYTES_PER_PX["palette" if plan.format is ExportFormat.PALETTE else "colormap"])
