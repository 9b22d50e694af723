"""align-raster: lays a raster exactly on another one of the same place.

The API imports this module to check and plan; GDAL and OpenCV are loaded by `run` alone.
"""

from __future__ import annotations

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
    NewEntryPath,
    Plan,
    RunContext,
    Tool,
    ToolParams,
)
from aerotask.tools.indexed_raster import known_profile

MEMORY_BYTES = 1024**3
"""Held by a limit on the child; two threads need about 300 MiB, whatever the rasters' size."""

_ROOM = 1.7
"""Of the source's uncompressed bytes: overviews, and the larger outline of a turned raster."""
_SMALLEST_ESTIMATE_BYTES = 64 * 1024


class AlignRasterParams(ToolParams):
    """What to move, what to lay it on, and where to put the result."""

    source_path: EntryPath
    """The raster to move; its CRS, resolution and pixel type are kept."""

    reference_path: EntryPath
    """The raster that lies where it should; it may have another CRS, resolution, extent and other bands."""

    output_path: NewEntryPath
    """Where the moved raster is put; what is there is replaced. Neither of the inputs."""

    mode: Literal["similarity", "translation"] = "similarity"
    """`similarity` finds shift, rotation and scale; `translation` the shift alone."""


class AlignRaster(Tool[AlignRasterParams]):
    """Finds how a raster is shifted, turned and scaled against a reference, and writes it where it belongs."""

    id, version, title = "align-raster", "1", "Align raster"
    description = "Lays an orthophoto or an elevation model exactly on another one of the same place, and writes it as a COG."
    access = Access.WRITE

    def preload(self) -> None:
        """Load GDAL, OpenCV and the library before the fork."""
        import aerotask.raster.alignment.run  # noqa: F401, PLC0415  loads GDAL, which the API must not

    def check(self, params: AlignRasterParams, dataset: DatasetView) -> None:
        """Refuse what can't be aligned, as far as the index knows the two rasters."""
        check_paths(params.source_path, params.reference_path, params.output_path)
        subjects = [_subject(dataset.file(path)) for path in (params.source_path, params.reference_path)]
        known = [subject for subject in subjects if subject]
        for subject in known:
            check_alignable(subject)
        if len(known) == len(subjects):
            check_overlap(*known)

    def plan(self, params: AlignRasterParams, dataset: DatasetView) -> Plan:
        """Estimate the size of the result from the source's pixels, or from its file before it is indexed."""
        entry = dataset.file(params.source_path)
        subject = _subject(entry)
        estimate = _estimate_bytes(subject.profile) if subject else 4 * entry.size_bytes
        return Plan(
            estimated_output_bytes=max(estimate, _SMALLEST_ESTIMATE_BYTES),
            memory_bytes=MEMORY_BYTES,
            reads=(params.source_path, params.reference_path),
            writes=(params.output_path,),
        )

    def run(self, params: AlignRasterParams, ctx: RunContext) -> None:
        """Check once more, on the real files, and align."""
        from aerotask.raster.alignment.run import (  # noqa: PLC0415  loads GDAL, which the API must not
            AlignOptions,
            run_alignment,
        )

        wish = AlignOptions(params.source_path, params.reference_path, params.output_path, params.mode)
        run_alignment(wish, ctx)


def _subject(entry: EntryView) -> AlignInput | None:
    profile = known_profile(entry, " that can be aligned; name a GeoTIFF.")
    return AlignInput(entry.path, profile, footprint_of(entry.polygon_geom)) if profile else None


def _estimate_bytes(profile: RasterProfile) -> int:
    pixel_bytes = sum(band.value_bytes for band in profile.bands)
    return round(profile.width * profile.height * pixel_bytes * _ROOM)
