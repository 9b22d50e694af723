"""Tool `merge-multispectral`: merges the single-band files of a multispectral camera into one raster.

The API imports this module to check and plan; only `run` and `preview` load GDAL.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import astuple, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from aerotask.domain.paths import base_name, shown
from aerotask.raster.merge.band_names import BandClues, name_bands
from aerotask.raster.merge.checks import BandFile, find_faults, find_warnings, raise_if_faulty
from aerotask.raster.profile import RasterProfile
from aerotask.sdk import (
    Access,
    DatasetView,
    DryRun,
    EntryPath,
    EntryView,
    Existing,
    FieldError,
    InvalidInput,
    NewEntryPath,
    Plan,
    RunContext,
    Tool,
)
from aerotask.tools.indexed_raster import RasterParams, known_profile, with_side_files
from aerotask.tools.output_entry import output_fault

if TYPE_CHECKING:
    from aerotask.raster.merge.plan import SourceBand

MAX_FILES = 64
MEMORY_BYTES = 1024**3
"""Memory limit of the child; a merge needs at most half of it, whatever the size of the rasters."""
_SMALLEST_ESTIMATE_BYTES = 64 * 1024
_OVERVIEWS = 4 / 3
_SUFFIXES = (".tif", ".tiff")


class MergeMultispectralParams(RasterParams):
    """The bands to merge, and the output."""

    paths: tuple[EntryPath, ...] = Field(min_length=2, max_length=MAX_FILES)
    """The files, one band each, in the order of the output's bands."""

    output_path: NewEntryPath
    """The path of the merged raster; it must end in `.tif` or `.tiff`."""

    overwrite: bool = False
    """Replace an existing file at `outputPath`; otherwise it is an error."""


class MergeMultispectral(Tool[MergeMultispectralParams]):
    """Merges single-band rasters into one multi-band COG, pixel for pixel."""

    id, version, title = "merge-multispectral", "1", "Merge multispectral bands"
    description = (
        "Merges the single-band files of a multispectral camera into one raster whose bands are named, so that "
        "indices find them. Images without georeference are shifted by their lenses' optical centres."
    )
    access = Access.WRITE
    verifies_inputs = True
    route_aliases = ("merge-multispectral",)

    def preload(self) -> None:
        """Load GDAL and the pipeline before the fork."""
        import aerotask.metadata.photos.multispectral  # noqa: PLC0415
        import aerotask.raster.merge.preview  # noqa: PLC0415
        import aerotask.raster.merge.run  # noqa: F401, PLC0415  loads GDAL, which the API must not

    def check(self, params: MergeMultispectralParams, dataset: DatasetView) -> None:
        """Report all faults at once, as far as the index describes the files."""
        faults = [*_path_faults(params), *_output_faults(params, dataset)]
        files = []
        for number, path in enumerate(params.paths):
            try:
                files.append(BandFile(path, _profile(dataset.file(path))))
            except InvalidInput as error:
                files.append(BandFile(path, None))
                faults.append(FieldError(f"/params/paths/{number}", error.message, error.code))
        raise_if_faulty([*faults, *find_faults(files)])

    def plan(self, params: MergeMultispectralParams, dataset: DatasetView) -> Plan:
        """Estimate the output by the pixels, or by the file sizes before indexing."""
        profiles = _profiles(params, dataset)
        known_bytes = [_pixel_bytes(profile) for profile in profiles if profile]
        file_bytes = sum(dataset.file(path).size_bytes for path in params.paths)
        estimate = sum(known_bytes) if len(known_bytes) == len(profiles) else 2 * file_bytes
        return Plan(
            estimated_output_bytes=max(round(estimate * _OVERVIEWS), _SMALLEST_ESTIMATE_BYTES),
            memory_bytes=MEMORY_BYTES,
            reads=with_side_files(params.paths, dataset),
            writes=(params.output_path,),
        )

    def dry_run(self, params: MergeMultispectralParams, dataset: DatasetView) -> DryRun:
        """The grid and the bands of the output, as far as the index describes the files."""
        profiles = _profiles(params, dataset)
        files = [BandFile(path, profile) for path, profile in zip(params.paths, profiles, strict=True)]
        known = [profile for profile in profiles if profile]
        warnings = find_warnings(files)
        if len(known) < len(files):
            warnings.append("Some files aren't indexed yet; they are checked when the task runs.")
        summary: dict[str, Any] = {"outputPath": params.output_path, "bands": _bands(files)}
        if known:
            first = known[0]
            summary |= {
                "width": first.width,
                "height": first.height,
                "type": first.bands[0].dtype,
                "crs": first.crs,
                "nodata": first.to_properties()["bands"][0]["nodata"],
                "georeferenced": first.geotransform is not None,
                # Without georeference, the run shifts bands by camera metadata, which may make the output smaller.
                "mayBeShifted": first.geotransform is None,
            }
        return DryRun(warnings=tuple(warnings), summary=summary)

    def run(self, params: MergeMultispectralParams, ctx: RunContext) -> None:
        """Check the files themselves, and merge."""
        from aerotask.raster.merge.plan import plan_merge  # noqa: PLC0415  loads GDAL, which the API must not
        from aerotask.raster.merge.run import run_merge  # noqa: PLC0415

        sources, exif = _sources(params, ctx.input)
        existing = Existing.REPLACE if params.overwrite else Existing.REFUSE
        run_merge(plan_merge(sources), exif, params.output_path, ctx, existing=existing)

    def preview(
        self, params: MergeMultispectralParams, inputs: Mapping[str, Path], *, longest_px: int
    ) -> bytes:
        """The merged raster in colour.

        Raises:
            InvalidInput: the files can't be merged, as in a run.
        """
        from aerotask.raster.merge.plan import plan_merge  # noqa: PLC0415  loads GDAL, which the API must not
        from aerotask.raster.merge.preview import preview_merge  # noqa: PLC0415

        return preview_merge(plan_merge(_sources(params, inputs.__getitem__)[0]), longest_px=longest_px)


def _sources(
    params: MergeMultispectralParams, input_of: Callable[[str], Path]
) -> tuple[list[SourceBand], Mapping[str, Any]]:
    """The files with their profiles and camera metadata, and the EXIF of the first that has a position.

    Raises:
        InvalidInput: some files are not rasters; the error lists all other faults as well.
    """
    from aerotask.metadata.photos.multispectral import read_lens  # noqa: PLC0415  loads GDAL, which the API must not
    from aerotask.raster.merge.plan import OpticalCentrePx  # noqa: PLC0415
    from aerotask.raster.merge.run import read_source_band  # noqa: PLC0415

    sources: list[SourceBand] = []
    exifs: list[Mapping[str, Any]] = []
    faults = [*_path_faults(params)]
    for number, path in enumerate(params.paths):
        file = input_of(path)
        try:
            source = read_source_band(path, file)
        except InvalidInput as error:
            faults.append(FieldError(f"/params/paths/{number}", error.message, error.code))
            continue
        lens, embedded = read_lens(file, width=source.profile.width, height=source.profile.height)
        exifs.append(embedded.exif)
        sources.append(
            replace(
                source,
                centre=OpticalCentrePx(*astuple(lens.centre)) if lens.centre else None,
                camera_band=lens.band_name,
                wavelength_nm=lens.wavelength_nm,
            )
        )
    if faults:
        files = [BandFile(source.path, source.profile) for source in sources]
        raise_if_faulty([*faults, *find_faults(files)])
    return sources, next((exif for exif in exifs if exif.get("gps")), exifs[0])


def _path_faults(params: MergeMultispectralParams) -> Iterator[FieldError]:
    """Faults of the parameters themselves."""
    for number, path in enumerate(params.paths):
        if path in params.paths[:number]:
            yield FieldError(
                f"/params/paths/{number}", f"{shown(path)} is given more than once.", "duplicate-input"
            )
    if params.output_path in params.paths:
        yield FieldError(
            "/params/outputPath",
            "The output would replace one of the inputs; choose another path.",
            "output-is-input",
        )
    if not params.output_path.lower().endswith(_SUFFIXES):
        yield FieldError(
            "/params/outputPath",
            "The output is a TIFF; its path must end in '.tif' or '.tiff'.",
            "invalid-output-name",
        )


def _output_faults(params: MergeMultispectralParams, dataset: DatasetView) -> Iterator[FieldError]:
    if params.output_path in params.paths:
        return
    fault = output_fault(params.output_path, dataset, overwrite=params.overwrite)
    if fault:
        yield fault


def _profiles(params: MergeMultispectralParams, dataset: DatasetView) -> list[RasterProfile | None]:
    return [_profile(dataset.file(path)) for path in params.paths]


def _profile(entry: EntryView) -> RasterProfile | None:
    return known_profile(entry, "; name the bands' TIFF files.", undescribed=frozenset())


def _pixel_bytes(profile: RasterProfile) -> int:
    return profile.width * profile.height * profile.bands[0].value_bytes


def _bands(files: list[BandFile]) -> list[dict[str, Any]]:
    bands = name_bands(
        [
            BandClues(base_name(file.path), file.profile.bands[0].description if file.profile else None)
            for file in files
        ]
    )
    return [
        {"path": file.path, "name": band.name, "known": band.colour != "undefined"}
        for file, band in zip(files, bands, strict=True)
    ]
