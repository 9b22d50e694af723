"""From the files to merge to what is read from where and written: plain values, before a pixel is touched."""

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
"""Of the width and of the height that all bands must have in common."""


@dataclass(frozen=True, slots=True)
class OpticalCentrePx:
    """A camera's optical centre in pixels; only those of the same `kind` can be compared."""

    kind: str
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class SourceBand:
    """One file to merge, and what is known of the camera that took it."""

    path: str
    """In the dataset."""
    file: Path
    profile: RasterProfile
    centre: OpticalCentrePx | None = None
    camera_band: str | None = None
    wavelength_nm: float | None = None
    has_mask: bool = False
    """Whether the file tells beside its band which pixels count."""


@dataclass(frozen=True, slots=True)
class MergePlan:
    """What is written: `offsets[i]` is the row and column of file i that comes to stand at the output's origin."""

    sources: tuple[SourceBand, ...]
    bands: tuple[NamedBand, ...]
    shape_yx: Shape
    offsets: tuple[Shape, ...]
    centre_kind: str | None
    """Which centres the bands were shifted by; None if they are taken as they lie."""
    warnings: tuple[str, ...]

    @property
    def first(self) -> RasterProfile:
        """The header that the output takes over."""
        return self.sources[0].profile

    @property
    def is_shifted(self) -> bool:
        """Whether the output is a part of the files."""
        return self.shape_yx != (self.first.height, self.first.width)

    def shift_of(self, number: int) -> tuple[int, int]:
        """By how many pixels to the right and down file `number` shows what the first file shows."""
        (row, col), (first_row, first_col) = self.offsets[number], self.offsets[0]
        return col - first_col, row - first_row


def plan_merge(sources: Sequence[SourceBand]) -> MergePlan:
    """What merging the files in this order gives.

    Raises:
        InvalidInput: they don't fit together; the refusal names everything that is wrong.
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
            *_naming_doubts(sources, bands),
            *_camera_doubts(sources, is_placed=is_placed),
        ),
    )


def common_area(shape_yx: Shape, centres: Sequence[OpticalCentrePx]) -> tuple[Shape, tuple[Shape, ...]]:
    """The rows and columns that all pictures of that shape show, and where they begin in each picture.

    Each picture is moved by whole pixels, so that its centre comes to stand on that of the first.
    """
    shifts = [(_rounded(centre.y - centres[0].y), _rounded(centre.x - centres[0].x)) for centre in centres]
    lowest = [min(shift[axis] for shift in shifts) for axis in (0, 1)]
    highest = [max(shift[axis] for shift in shifts) for axis in (0, 1)]
    shape = tuple(max(shape_yx[axis] - (highest[axis] - lowest[axis]), 0) for axis in (0, 1))
    offsets = tuple((row - lowest[0], col - lowest[1]) for row, col in shifts)
    return (shape[0], shape[1]), offsets


def _rounded(value: float) -> int:
    """To the nearest whole number, halves upwards, so that the same difference always gives the same shift."""
    return math.floor(value + 0.5)


def _mask_faults(sources: Sequence[SourceBand]) -> list[FieldError]:
    """Masks can differ from band to band, which one raster can't hold; leaving them out would change the pixels."""
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
    """Pictures without georeference must all have a centre of one kind, or none of them one."""
    kinds = {source.centre.kind for source in sources if source.centre}
    if not kinds:
        return []
    expected = next(source.centre.kind for source in sources if source.centre)
    return [
        FieldError(
            f"/params/paths/{number}", f"{shown(source.path)} {_lacking(source, expected)}", "camera-mismatch"
        )
        for number, source in enumerate(sources)
        if source.centre is None or source.centre.kind != expected
    ]


def _lacking(source: SourceBand, expected: str) -> str:
    if source.centre is None:
        return f"has no camera metadata that tell its {expected}, which other files have."
    return f"tells its {source.centre.kind}, other files their {expected}; these can't be compared."


def _too_far_apart(shape: Shape, whole: Shape) -> FieldError:
    return FieldError(
        "/params/paths",
        f"Shifted by their optical centres, the bands have only {shape[1]} × {shape[0]} of "
        f"{whole[1]} × {whole[0]} pixels in common; are they of one capture?",
        "shifts-too-large",
    )


def _clues(source: SourceBand) -> BandClues:
    return BandClues(
        file_name=base_name(source.path),
        description=source.profile.bands[0].description,
        camera_band=source.camera_band,
        wavelength_nm=source.wavelength_nm,
    )


def _naming_doubts(sources: Sequence[SourceBand], bands: Sequence[NamedBand]) -> list[str]:
    unknown = [
        shown(source.path) for source, band in zip(sources, bands, strict=True) if band.colour == "undefined"
    ]
    if not unknown:
        return []
    return [f"What the band shows isn't known, or another file shows it already, of {', '.join(unknown)}."]


def _camera_doubts(sources: Sequence[SourceBand], *, is_placed: bool) -> list[str]:
    if is_placed or any(source.centre for source in sources):
        return []
    return ["The files have neither georeference nor camera metadata; they are stacked as they are."]
