"""Merge plan: source windows, output shape and band names, as plain values, before any pixel is read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aerotask.domain.errors import FieldError
from aerotask.domain.paths import base_name, shown
from aerotask.raster.merge.band_names import BandClues, NamedBand, name_bands
from aerotask.raster.merge.checks import BandFile, find_faults, find_warnings, raise_if_faulty
from aerotask.raster.profile import RasterProfile
from aerotask.raster.windows import Shape

SMALLEST_SHARE = 0.5
"""Minimum share of width and height that all bands must have in common."""


@dataclass(frozen=True, slots=True)
class OpticalCentrePx:
    """Optical centre of a camera in pixels; only centres of the same `kind` can be compared."""

    kind: str
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class SourceBand:
    """Source file of a band, with the metadata of its camera."""

    path: str
    """In the dataset."""
    file: Path
    profile: RasterProfile
    centre: OpticalCentrePx | None = None
    camera_band: str | None = None
    wavelength_nm: float | None = None
    has_mask: bool = False
    """Whether the file has a validity mask beside its band."""


@dataclass(frozen=True, slots=True)
class MergePlan:
    """Plan of a merge: `offsets[i]` is the row and column of file i that is placed at the output's origin."""

    sources: tuple[SourceBand, ...]
    bands: tuple[NamedBand, ...]
    shape_yx: Shape
    offsets: tuple[Shape, ...]
    centre_kind: str | None
    """Kind of the centres that the bands are shifted by; None if they are stacked without a shift."""
    warnings: tuple[str, ...]

    @property
    def first(self) -> RasterProfile:
        """The profile that the output inherits."""
        return self.sources[0].profile

    @property
    def is_shifted(self) -> bool:
        """Whether the output is only a part of the files."""
        return self.shape_yx != (self.first.height, self.first.width)

    def shift_of(self, number: int) -> tuple[int, int]:
        """The shift of file `number` against the first file, in pixels to the right and down."""
        (row, col), (first_row, first_col) = self.offsets[number], self.offsets[0]
        return col - first_col, row - first_row


def plan_merge(sources: Sequence[SourceBand]) -> MergePlan:
    """Plan the merge of the files in this order.

    Raises:
        InvalidInput: they don't match; the error lists all faults.
    """
    files = [BandFile(source.path, source.profile) for source in sources]
    faults = find_faults(files)
    is_placed = any(source.profile.geotransform for source in sources)
    faults += _mask_faults(sources)
    if not is_placed:
        faults += _camera_faults(sources)
    raise_if_faulty(faults)
    first = sources[0].profile
    whole = (first.height, first.width)
    centres = [] if is_placed else [source.centre for source in sources if source.centre]
    shape, offsets = common_area(whole, centres) if centres else (whole, ((0, 0),) * len(sources))
    if min(shape[0] / whole[0], shape[1] / whole[1]) < SMALLEST_SHARE:
        raise_if_faulty([_too_far_apart(shape, whole)])
    bands = name_bands([_clues(source) for source in sources])
    return MergePlan(
        sources=tuple(sources),
        bands=bands,
        shape_yx=shape,
        offsets=offsets,
        centre_kind=centres[0].kind if centres else None,
        warnings=(
            *find_warnings(files),
            *_naming_warnings(sources, bands),
            *_camera_warnings(sources, is_placed=is_placed),
        ),
    )


def common_area(shape_yx: Shape, centres: Sequence[OpticalCentrePx]) -> tuple[Shape, tuple[Shape, ...]]:
    """The shape of the area that all photos of that shape share, and its first row and column in each.

    Each photo is moved by whole pixels, so that its centre falls on that of the first.
    """
    shifts = [(_rounded(centre.y - centres[0].y), _rounded(centre.x - centres[0].x)) for centre in centres]
    lowest = [min(shift[axis] for shift in shifts) for axis in (0, 1)]
    highest = [max(shift[axis] for shift in shifts) for axis in (0, 1)]
    shape = tuple(max(shape_yx[axis] - (highest[axis] - lowest[axis]), 0) for axis in (0, 1))
    offsets = tuple((row - lowest[0], col - lowest[1]) for row, col in shifts)
    return (shape[0], shape[1]), offsets


def _rounded(value: float) -> int:
    """The nearest integer, halves rounded up: the same difference always gives the same shift."""
    return math.floor(value + 0.5)


def _mask_faults(sources: Sequence[SourceBand]) -> list[FieldError]:
    """Faults of files with masks: one raster can't hold a mask per band, and dropping them would change the pixels."""
    return [
        FieldError(
            f"/params/paths/{number}",
            f"{shown(source.path)} has a mask of its own; give these pixels a nodata value instead.",
            "masked-raster",
        )
        for number, source in enumerate(sources)
        if source.has_mask
    ]


def _camera_faults(sources: Sequence[SourceBand]) -> list[FieldError]:
    """Faults of photos without georeference: all need a centre of one kind, or none may have one."""
    kinds = {source.centre.kind for source in sources if source.centre}
    if not kinds:
        return []
    expected = next(source.centre.kind for source in sources if source.centre)
    return [
        FieldError(
            f"/params/paths/{number}",
            f"{shown(source.path)} {_camera_fault(source, expected)}",
            "camera-mismatch",
        )
        for number, source in enumerate(sources)
        if source.centre is None or source.centre.kind != expected
    ]


def _camera_fault(source: SourceBand, expected: str) -> str:
    if source.centre is None:
        return f"has no {expected} in its camera metadata, but other files have one."
    return f"has a {source.centre.kind}, other files a {expected}; the two can't be compared."


def _too_far_apart(shape: Shape, whole: Shape) -> FieldError:
    return FieldError(
        "/params/paths",
        f"Shifted by their optical centres, the bands have only {shape[1]} × {shape[0]} of "
        f"{whole[1]} × {whole[0]} pixels in common. Are they from the same capture?",
        "shifts-too-large",
    )


def _clues(source: SourceBand) -> BandClues:
    return BandClues(
        file_name=base_name(source.path),
        description=source.profile.bands[0].description,
        camera_band=source.camera_band,
        wavelength_nm=source.wavelength_nm,
    )


def _naming_warnings(sources: Sequence[SourceBand], bands: Sequence[NamedBand]) -> list[str]:
    unknown = [
        shown(source.path) for source, band in zip(sources, bands, strict=True) if band.colour == "undefined"
    ]
    if not unknown:
        return []
    return [f"The band's role is unknown, or another file has the same role: {', '.join(unknown)}."]


def _camera_warnings(sources: Sequence[SourceBand], *, is_placed: bool) -> list[str]:
    if is_placed or any(source.centre for source in sources):
        return []
    return ["The files have neither georeference nor camera metadata; they are stacked as they are."]
