"""What an alignment refuses, from headers alone: the same at submit and in the run, and without GDAL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aerotask.domain.errors import InvalidInput
from aerotask.domain.paths import shown
from aerotask.raster.alignment.footprints import Polygon, outline, overlap_share
from aerotask.raster.profile import RasterProfile

MIN_OVERLAP = 0.05
"""Of the smaller footprint."""


@dataclass(frozen=True, slots=True)
class AlignInput:
    """A raster as far as it is known: `footprint` is its outline in EPSG:4326, if that is known."""

    path: str
    profile: RasterProfile
    footprint: Polygon | None


def check_paths(source: str, reference: str, output: str) -> None:
    """Refuse to write over what is read, or to align a raster with itself.

    Raises:
        InvalidInput: two of the paths are the same (`same-raster`, `output-is-input`).
    """
    if output in {source, reference}:
        raise InvalidInput(
            f"The output {shown(output)} would replace an input; choose another path.", code="output-is-input"
        )
    if source == reference:
        raise InvalidInput("Source and reference are the same entry; name two.", code="same-raster")


def check_subject(subject: AlignInput) -> None:
    """Refuse a raster that can't be aligned, or aligned to.

    Raises:
        InvalidInput: it doesn't say where it lies (`missing-crs`), or holds complex numbers or bands of different types
            (`unsupported-pixel-type`).
    """
    profile = subject.profile
    if profile.crs is None or profile.geotransform is None:
        lacking = "a CRS" if profile.crs is None else "a geotransform"
        raise InvalidInput(
            f"{shown(subject.path)} has no {lacking.partition(' ')[2]}, so nobody knows where it lies; "
            f"give it {lacking} ('gdal_edit -a_srs … -a_ullr …') and upload it again.",
            code="missing-crs",
        )
    types = {band.dtype for band in profile.bands}
    if len(types) > 1 or any(each.startswith("complex") for each in types):
        raise InvalidInput(
            f"{shown(subject.path)} holds {', '.join(sorted(types))}; bands of one real type are needed.",
            code="unsupported-pixel-type",
        )


def check_overlap(source: AlignInput, reference: AlignInput) -> float | None:
    """The overlap as a part of the smaller footprint; None where the index can't tell.

    Raises:
        InvalidInput: it is less than `MIN_OVERLAP` (`no-overlap`).
    """
    outlines = _comparable_outlines(source, reference)
    if outlines is None:
        return None
    share = overlap_share(*outlines)
    if share < MIN_OVERLAP:
        raise InvalidInput(
            f"{shown(source.path)} and {shown(reference.path)} overlap by {share:.1%} of the smaller of them; at least "
            f"{MIN_OVERLAP:.0%} are needed. Are they of the same place, and is each one's CRS right?",
            code="no-overlap",
        )
    return share


def footprint_of(polygon: Mapping[str, Any] | None) -> Polygon | None:
    """The outer ring of a GeoJSON polygon, without its repeated last corner."""
    try:
        ring = (polygon or {})["coordinates"][0]
        return [(float(point[0]), float(point[1])) for point in ring[:-1]]
    except (KeyError, IndexError, TypeError, ValueError):
        return None


def _comparable_outlines(source: AlignInput, reference: AlignInput) -> tuple[Polygon, Polygon] | None:
    """Both outlines in the CRS that they share, else in EPSG:4326."""
    if source.profile.crs == reference.profile.crs:
        return _own_outline(source.profile), _own_outline(reference.profile)
    if source.footprint and reference.footprint:
        return source.footprint, reference.footprint
    return None


def _own_outline(profile: RasterProfile) -> Polygon:
    return outline(profile.geotransform or (0, 0, 0, 0, 0, 0), profile.width, profile.height)
