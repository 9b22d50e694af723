"""Tool `align-raster`: registers a raster against a reference raster of the same area.

The API imports this module to check and plan; only `run` and `preview` load GDAL and OpenCV.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from aerotask.raster.alignment.checks import (
    AlignInput,
    check_alignable,
    check_overlap,
    check_paths,
    footprint_of,
)
from aerotask.raster.profile import RasterProfile
from aerotask.sdk import (
    Access,
    DatasetView,
    EntryPath,
    EntryView,
    Existing,
    InvalidInput,
    NewEntryPath,
    Plan,
    RunContext,
    Tool,
)
from aerotask.tools.indexed_raster import RasterParams, known_profile, with_side_files
from aerotask.tools.output_entry import output_fault

MEMORY_BYTES = 1024**3
"""Memory limit of the child; two threads need about 300 MiB, whatever the rasters' size."""

_OUTPUT_GROWTH = 1.7
"""Output bytes for each uncompressed byte of the source: overviews, and the larger extent of a rotated raster."""
_SMALLEST_ESTIMATE_BYTES = 64 * 1024


class AlignRasterParams(RasterParams):
    """The source raster, the reference and the output."""

    source_path: EntryPath
    """The raster to align; the output keeps its CRS, resolution and pixel type."""

    reference_path: EntryPath
    """The raster to align to; CRS, resolution, extent and bands may differ."""

    output_path: NewEntryPath
    """The path of the aligned raster. It can't be one of the inputs."""

    overwrite: bool = False
    """Replace an existing file at `outputPath`; otherwise it is an error."""

    mode: Literal["similarity", "translation"] = "similarity"
    """`similarity` estimates shift, rotation and scale; `translation` only the shift."""


class AlignRaster(Tool[AlignRasterParams]):
    """Estimates a raster's shift, rotation and scale against a reference, and writes the aligned raster."""

    id, version, title = "align-raster", "1", "Align raster"
    description = (
        "Aligns an orthophoto or an elevation model to a reference of the same area, and writes it as a COG."
    )
    access = Access.WRITE
    verifies_inputs = True
    route_aliases = ("align",)

    def preload(self) -> None:
        """Load GDAL, OpenCV and the alignment before the fork."""
        import aerotask.raster.alignment.preview  # noqa: PLC0415
        import aerotask.raster.alignment.run  # noqa: F401, PLC0415  loads GDAL, which the API must not

    def check(self, params: AlignRasterParams, dataset: DatasetView) -> None:
        """Refuse rasters that can't be aligned, as far as the index describes them."""
        check_paths(params.source_path, params.reference_path, params.output_path)
        fault = output_fault(params.output_path, dataset, overwrite=params.overwrite)
        if fault:
            raise InvalidInput(fault.message, code=fault.code, errors=(fault,))
        subjects = [_subject(dataset.file(path)) for path in (params.source_path, params.reference_path)]
        known = [subject for subject in subjects if subject]
        for subject in known:
            check_alignable(subject)
        if len(known) == len(subjects):
            check_overlap(*known)

    def plan(self, params: AlignRasterParams, dataset: DatasetView) -> Plan:
        """Estimate the output size from the source's pixels, or from its file size before it is indexed."""
        entry = dataset.file(params.source_path)
        subject = _subject(entry)
        estimate = _estimate_bytes(subject.profile) if subject else 4 * entry.size_bytes
        return Plan(
            estimated_output_bytes=max(estimate, _SMALLEST_ESTIMATE_BYTES),
            memory_bytes=MEMORY_BYTES,
            reads=with_side_files((params.source_path, params.reference_path), dataset),
            writes=(params.output_path,),
        )

    def preview(self, params: AlignRasterParams, inputs: Mapping[str, Path], *, longest_px: int) -> bytes:
        """Both rasters in their present positions, over their overlap."""
        from aerotask.raster.alignment.preview import (  # noqa: PLC0415  loads GDAL, which the API must not
            preview_pair,
        )
        from aerotask.raster.georeference.side_files import read_side_files  # noqa: PLC0415  likewise

        rasters = params.source_path, params.reference_path
        sides = [read_side_files(Path(path), inputs).georeference for path in rasters]
        source, reference = (inputs[path] for path in rasters)
        return preview_pair(source, reference, sides=sides, longest_px=longest_px)

    def run(self, params: AlignRasterParams, ctx: RunContext) -> None:
        """Check the files themselves, and align."""
        from aerotask.raster.alignment.run import (  # noqa: PLC0415  loads GDAL, which the API must not
            AlignOptions,
            run_alignment,
        )

        options = AlignOptions(params.source_path, params.reference_path, params.output_path, params.mode)
        existing = Existing.REPLACE if params.overwrite else Existing.REFUSE
        run_alignment(options, ctx, existing=existing)


def _subject(entry: EntryView) -> AlignInput | None:
    profile = known_profile(entry, " that can be aligned; name a GeoTIFF.")
    return AlignInput(entry.path, profile, footprint_of(entry.polygon_geom)) if profile else None


def _estimate_bytes(profile: RasterProfile) -> int:
    pixel_bytes = sum(band.value_bytes for band in profile.bands)
    return round(profile.width * profile.height * pixel_bytes * _OUTPUT_GROWTH)
