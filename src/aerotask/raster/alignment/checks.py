"""Checks before an alignment, from profiles alone: the same at submit and in the run, without GDAL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aerotask.domain.errors import InvalidInput
from aerotask.domain.paths import shown
from aerotask.raster.alignment.footprints import Polygon, outline, overlap_share
from aerotask.raster.profile import RasterProfile

MIN_OVERLAP = 0.05
"""Minimum overlap, as a share of the smaller footprint."""


@dataclass(frozen=True, slots=True)
class AlignInput:
    """Raster to align, or to align to; `footprint` is its outline in EPSG:4326, if known."""

    path: str
    profile: RasterProfile
    footprint: Polygon | None


def check_paths(source: str, reference: str, output: str) -> None:
    """Check that three different entries are named.

    Raises:
        InvalidInput: two of the paths are the same (`same-raster`, `output-is-input`).
    """
    if output in {source, reference}:
        raise InvalidInput(
            f"The output {shown(output)} would replace an input; choose another path.", code="output-is-input"
        )
    if source == reference:
        raise InvalidInput("Source and reference are the same entry; name two.", code="same-raster")


def check_alignable(raster: AlignInput) -> None:
    """Check the georeference and the pixel type of a raster.

    Raises:
        InvalidInput: it has no georeference (`missing-crs`), or has complex numbers or bands of different types
            (`unsupported-pixel-type`).
    """
    profile = raster.profile
    if profile.lacks_transform:
        raise InvalidInput(f"{shown(raster.path)} {profile.lacks_transform}.", code="missing-crs")
    if profile.crs is None or profile.geotransform is None:
        lacking, option = ("a CRS", "-a_srs") if profile.crs is None else ("a geotransform", "-a_ullr")
        raise InvalidInput(
            f"{shown(raster.path)} has no {lacking.partition(' ')[2]}, so its position is unknown; "
            f"give it {lacking} ('gdal_edit {option} …') and upload it again.",
            code="missing-crs",
        )
    types = {band.dtype for band in profile.bands}
    if len(types) > 1 or any(each.startswith("complex") for each in types):
        raise InvalidInput(
            f"{shown(raster.path)} has pixels of type {', '.join(sorted(types))}; all bands must have one real type.",
            code="unsupported-pixel-type",
        )


def check_overlap(source: AlignInput, reference: AlignInput) -> float | None:
    """The overlap as a share of the smaller footprint; None where the index doesn't know it.

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
            f"{MIN_OVERLAP:.0%} are needed. Do they show the same area, and is the CRS of each correct?",
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
    """Both outlines in their common CRS, else in EPSG:4326."""
    if source.profile.crs == reference.profile.crs:
        return _own_outline(source.profile), _own_outline(reference.profile)
    if source.footprint and reference.footprint:
        return source.footprint, reference.footprint
    return None


def _own_outline(profile: RasterProfile) -> Polygon:
    return outline(profile.geotransform or (0, 0, 0, 0, 0, 0), profile.width, profile.height)
