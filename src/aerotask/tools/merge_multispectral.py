"""merge-multispectral: the bands of a multispectral camera, each in a file of its own, as one raster.

The API imports this module to check and plan; GDAL is loaded by `run` alone.
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
    ToolParams,
)
from aerotask.tools.indexed_raster import known_profile

if TYPE_CHECKING:
    from aerotask.raster.merge.plan import SourceBand

MAX_FILES = 64
MEMORY_BYTES = 1024**3
"""Held by a limit on the child; a merge needs about half of it at most, whatever the size of the rasters."""
_SMALLEST_ESTIMATE_BYTES = 64 * 1024
_OVERVIEWS = 4 / 3
_SUFFIXES = (".tif", ".tiff")


class MergeMultispectralParams(ToolParams):
    """Which bands to merge, and where to put the result."""

    paths: tuple[EntryPath, ...] = Field(min_length=2, max_length=MAX_FILES)
    """The files, one band each, in the order that the bands are to have."""

    output_path: NewEntryPath
    """Where the merged raster is put: a path that ends in `.tif` or `.tiff`."""

    overwrite: bool = False
    """Replace what is at `outputPath`; otherwise a file there is a reason to refuse."""


class MergeMultispectral(Tool[MergeMultispectralParams]):
    """Merges single-band rasters into one multi-band COG, pixel for pixel."""

    id, version, title = "merge-multispectral", "1", "Merge multispectral bands"
    description = (
        "Makes one multi-band raster of the files that a multispectral camera writes, one for each band, so that "
        "indices find their bands. Pictures without georeference are shifted by their lenses' optical centres."
    )
    access = Access.WRITE

    def preload(self) -> None:
        """Load GDAL and the pipeline before the fork."""
        import aerotask.metadata.photos.multispectral  # noqa: PLC0415
        import aerotask.raster.merge.preview  # noqa: PLC0415
        import aerotask.raster.merge.run  # noqa: F401, PLC0415  loads GDAL, which the API must not

    def check(self, params: MergeMultispectralParams, dataset: DatasetView) -> None:
        """Refuse everything that is wrong at once, as far as the index knows the files."""
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
        """Estimate the result as large as the pixels are, or else as the files."""
        profiles = _profiles(params, dataset)
        known_bytes = [_pixel_bytes(profile) for profile in profiles if profile]
        file_bytes = sum(dataset.file(path).size_bytes for path in params.paths)
        estimate = sum(known_bytes) if len(known_bytes) == len(profiles) else 2 * file_bytes
        return Plan(
            estimated_output_bytes=max(round(estimate * _OVERVIEWS), _SMALLEST_ESTIMATE_BYTES),
            memory_bytes=MEMORY_BYTES,
            reads=params.paths,
            writes=(params.output_path,),
        )

    def dry_run(self, params: MergeMultispectralParams, dataset: DatasetView) -> DryRun:
        """The grid and the bands that the merge would have, as far as the index knows the files."""
        profiles = _profiles(params, dataset)
        files = [BandFile(path, profile) for path, profile in zip(params.paths, profiles, strict=True)]
        known = [profile for profile in profiles if profile]
        warnings = find_warnings(files)
        if len(known) < len(files):
            warnings.append("Some files aren't indexed yet; the rest is checked when the task runs.")
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
                # Without georeference, the cameras' metadata decide in the run, and the size may become smaller.
                "mayBeShifted": first.geotransform is None,
            }
        return DryRun(warnings=tuple(warnings), summary=summary)

    def run(self, params: MergeMultispectralParams, ctx: RunContext) -> None:
        """Check once more, on the real files, and merge."""
        from aerotask.raster.merge.plan import plan_merge  # noqa: PLC0415  loads GDAL, which the API must not
        from aerotask.raster.merge.run import run_merge  # noqa: PLC0415

        sources, exif = _sources(params, ctx.input)
        existing = Existing.REPLACE if params.overwrite else Existing.REFUSE
        run_merge(plan_merge(sources), exif, params.output_path, ctx, existing=existing)

    def preview(
        self, params: MergeMultispectralParams, input_of: Callable[[str], Path], *, longest_px: int = 1024
    ) -> bytes:
        """A WebP, no side longer than `longest_px`, of what the merge would give; it opens the files, so it is for a child process.

        Raises:
            InvalidInput: the files can't be merged, as in a run.
        """
        from aerotask.raster.merge.plan import plan_merge  # noqa: PLC0415  loads GDAL, which the API must not
        from aerotask.raster.merge.preview import preview_merge  # noqa: PLC0415

        return preview_merge(plan_merge(_sources(params, input_of)[0]), longest_px=longest_px)


def _sources(
    params: MergeMultispectralParams, input_of: Callable[[str], Path]
) -> tuple[list[SourceBand], Mapping[str, Any]]:
    """The real files with what they and their cameras say, and the EXIF of the first that tells its position.

    Raises:
        InvalidInput: some are no rasters; the refusal also names what else is wrong.
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
    """What the parameters themselves show to be wrong."""
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
            "/params/outputPath", "The output is a TIFF: let its path end in '.tif'.", "invalid-output-name"
        )


def _output_faults(params: MergeMultispectralParams, dataset: DatasetView) -> Iterator[FieldError]:
    there = dataset.entries.get(params.output_path)
    if there is None or params.output_path in params.paths:
        return
    if there.is_folder:
        message = f"There is a folder at {shown(there.path)}; choose another path."
        yield FieldError("/params/outputPath", message, "entry-is-folder")
    elif not params.overwrite:
        message = f"There is a file at {shown(there.path)}; choose another path, or set 'overwrite'."
        yield FieldError("/params/outputPath", message, "output-exists")


def _profiles(params: MergeMultispectralParams, dataset: DatasetView) -> list[RasterProfile | None]:
    return [_profile(dataset.file(path)) for path in params.paths]


def _profile(entry: EntryView) -> RasterProfile | None:
    return known_profile(entry, "; name the bands' TIFF files.", undescribed=frozenset())


def _pixel_bytes(profile: RasterProfile) -> int:
    return profile.width * profile.height * profile.bands[0].value_bytes


def _bands(files: list[BandFile]) -> list[dict[str, Any]]:
    named = name_bands(
        [
            BandClues(base_name(file.path), file.profile.bands[0].description if file.profile else None)
            for file in files
        ]
    )
    return [
        {"path": file.path, "name": band.name, "known": band.colour != "undefined"}
        for file, band in zip(files, named, strict=True)
    ]
