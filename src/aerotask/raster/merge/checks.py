"""Checks of single-band rasters before a merge, from their headers: pure, all faults at once."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from aerotask.domain.errors import FieldError, InvalidInput
from aerotask.domain.paths import shown
from aerotask.raster.profile import RasterProfile

MERGEABLE_TYPES = frozenset({"uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"})
PIXEL_SIZE_WARNING, PIXEL_SIZE_LIMIT = 0.01, 0.05
"""Relative differences of pixel sizes: above the first a warning, above the second an error."""
ORIGIN_LIMIT_PX = 1.0
ORIGIN_WARNING_PX = 0.1
_ROUNDING = 1e-9
"""Tolerance for rounding when pixel sizes and origins are written to files and read back."""
SEVERAL_FAULTS = "bands-do-not-match"


@dataclass(frozen=True, slots=True)
class BandFile:
    """File to merge; `profile` is None until it has been indexed."""

    path: str
    profile: RasterProfile | None


def raise_if_faulty(faults: Sequence[FieldError]) -> None:
    """Raise one error with all faults, if there are any.

    Raises:
        InvalidInput: with the faults' own code, or `bands-do-not-match` if they are of several kinds.
    """
    if not faults:
        return
    codes = {fault.code for fault in faults}
    message = " ".join(dict.fromkeys(fault.message for fault in faults))
    if len(faults) > 1:
        message = f"{len(faults)} problems were found. {message}"
    raise InvalidInput(message, code=SEVERAL_FAULTS if len(codes) > 1 else codes.pop(), errors=tuple(faults))


def find_faults(files: Sequence[BandFile]) -> list[FieldError]:
    """All faults of the files, each by itself and compared with the first file."""
    known = [(at, file.path, file.profile) for at, file in enumerate(files) if file.profile]
    faults: list[FieldError] = []
    for number, path, profile in known:
        found = [*_own_faults(profile)]
        if number != known[0][0]:
            found += _differences(profile, known[0][2])
        faults += [_fault(number, f"{shown(path)} {text}", code) for code, text in found]
    return faults


def find_warnings(files: Sequence[BandFile]) -> list[str]:
    """Differences that don't prevent a merge but should be reported."""
    known = [(file.path, file.profile) for file in files if file.profile]
    pages = [
        f"{shown(path)} has {profile.pages} pages; only the first is merged."
        for path, profile in known
        if profile.pages > 1
    ]
    return pages + [
        f"{shown(path)} {text}" for path, profile in known[1:] for text in _warnings(profile, known[0][1])
    ]


def _fault(number: int, message: str, code: str) -> FieldError:
    return FieldError(f"/params/paths/{number}", message, code)


def _own_faults(profile: RasterProfile) -> Iterator[tuple[str, str]]:
    if profile.count != 1:
        colours = ", ".join(band.colour for band in profile.bands[:6])
        yield "not-single-band", f"has {profile.count} bands ({colours}); each file must hold one band."
    if profile.bands[0].colour == "palette":
        yield "palette-image", "holds palette indices, not measured values."
    if profile.bands[0].dtype not in MERGEABLE_TYPES:
        yield (
            "unsupported-pixel-type",
            f"has pixels of type {profile.bands[0].dtype}, which can't be merged.",
        )
    if profile.lacks_transform:
        yield "mixed-georeference", f"{profile.lacks_transform}."
    if _is_rotated(profile):
        yield "rotated-raster", "is rotated or sheared in its CRS; warp it to a north-up grid first."


def _differences(profile: RasterProfile, first: RasterProfile) -> Iterator[tuple[str, str]]:
    """Reasons why a file doesn't match the first one."""
    if (profile.width, profile.height) != (first.width, first.height):
        yield (
            "size-mismatch",
            f"is {profile.width} × {profile.height} pixels, the first file {first.width} × {first.height}.",
        )
    band, first_band = profile.bands[0], first.bands[0]
    if band.dtype != first_band.dtype:
        yield "type-mismatch", f"has pixels of type {band.dtype}, the first file {first_band.dtype}."
    if not _same_nodata(band.nodata, first_band.nodata):
        yield (
            "nodata-mismatch",
            f"has the nodata value {_number(band.nodata)}, the first file {_number(first_band.nodata)}.",
        )
    if profile.lacks_transform or first.lacks_transform:
        pass  # a fault of its own
    elif (profile.geotransform is None) != (first.geotransform is None):
        which = (
            "isn't georeferenced, the first file is."
            if first.geotransform
            else "is georeferenced, the first file isn't."
        )
        yield "mixed-georeference", which
    elif profile.crs != first.crs:
        yield "crs-mismatch", f"is in {_crs(profile)}, the first file in {_crs(first)}."
    yield from _grid_differences(profile, first)


def _grid_differences(profile: RasterProfile, first: RasterProfile) -> Iterator[tuple[str, str]]:
    if not _have_comparable_grids(profile, first):
        return
    if pixel_size_difference(profile, first) > PIXEL_SIZE_LIMIT + _ROUNDING:
        yield (
            "pixel-size-mismatch",
            f"has pixels of {_pixel_size(profile)}, the first file of {_pixel_size(first)}: too different.",
        )
    elif origin_offset_px(profile, first) > ORIGIN_LIMIT_PX + 1e-6:
        yield (
            "origin-mismatch",
            f"begins {origin_offset_px(profile, first):.1f} pixels from where the first file does, not within one.",
        )


def _warnings(profile: RasterProfile, first: RasterProfile) -> Iterator[str]:
    band, first_band = profile.bands[0], first.bands[0]
    if (band.scale, band.offset) != (first_band.scale, first_band.offset):
        yield (
            f"has scale {band.scale:g} and offset {band.offset:g}, the first file {first_band.scale:g} and "
            f"{first_band.offset:g}; each band keeps its own."
        )
    if not _have_comparable_grids(profile, first):
        return
    difference = pixel_size_difference(profile, first)
    if PIXEL_SIZE_WARNING + _ROUNDING < difference <= PIXEL_SIZE_LIMIT + _ROUNDING:
        yield f"has pixels {difference:.1%} larger or smaller than the first file's; they are stacked as they are."
    offset_px = origin_offset_px(profile, first)
    if ORIGIN_WARNING_PX < offset_px <= ORIGIN_LIMIT_PX + 1e-6:
        yield f"begins {offset_px:.2f} pixels from where the first file does; the pixels are stacked as they are."


def pixel_size_difference(profile: RasterProfile, first: RasterProfile) -> float:
    """The larger relative difference of pixel width and height; a mirrored axis counts as 200 %."""
    if profile.geotransform is None or first.geotransform is None:
        return 0.0
    return max(abs(profile.geotransform[at] / first.geotransform[at] - 1) for at in (1, 5))


def origin_offset_px(profile: RasterProfile, first: RasterProfile) -> float:
    """The distance between the origins in pixels of the first, along the axis where it is larger."""
    if profile.geotransform is None or first.geotransform is None:
        return 0.0
    return max(
        abs((profile.geotransform[at] - first.geotransform[at]) / first.geotransform[size])
        for at, size in ((0, 1), (3, 5))
    )


def _have_comparable_grids(profile: RasterProfile, first: RasterProfile) -> bool:
    return all(each.geotransform is not None and not _is_rotated(each) for each in (profile, first))


def _is_rotated(profile: RasterProfile) -> bool:
    if profile.geotransform is None:
        return False
    _, width, row_rotation, _, column_rotation, height = profile.geotransform
    # A grid without width or height along its own axes is rotated by a right angle.
    return not max(abs(row_rotation), abs(column_rotation)) < 1e-6 * min(abs(width), abs(height))


def _same_nodata(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return one == other or (math.isnan(one) and math.isnan(other))


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:g}"


def _crs(profile: RasterProfile) -> str:
    if profile.crs is None:
        return "no CRS"
    return profile.crs if profile.crs.startswith("EPSG:") else shown(profile.crs[:60])


def _pixel_size(profile: RasterProfile) -> str:
    transform = profile.geotransform or (0.0,) * 6
    return f"{abs(transform[1]):g} × {abs(transform[5]):g}" + (" (south up)" if transform[5] > 0 else "")
