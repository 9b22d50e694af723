"""Metadata of rasters: profile, footprint and stored statistics."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aerotask.domain.errors import InvalidInput
from aerotask.metadata.geojson import Footprint, GeoJson, footprint_of, footprint_of_all
from aerotask.raster.georeference.placement import bounds_deg, placement_of
from aerotask.raster.georeference.side_files import read_side_files
from aerotask.raster.header import crs_text, read_profile
from aerotask.raster.io import open_raster
from aerotask.raster.profile import RasterProfile


@dataclass(frozen=True, slots=True)
class RasterMetadata:
    """A raster's profile, with its outline and its centre as GeoJSON in EPSG:4326 where they are known."""

    profile: RasterProfile
    footprint: GeoJson | None
    centre: GeoJson | None
    extras: Mapping[str, Any] = field(default_factory=dict)
    """Further properties besides the profile: see `docs/metadata.md`."""

    @property
    def is_georeferenced(self) -> bool:
        """Whether the raster's footprint is known."""
        return self.footprint is not None


def extract_raster(path: Path) -> RasterMetadata:
    """Extracts the metadata of the raster at `path` from its header; no pixels are read.

    Raises:
        InvalidInput: the file is not a readable raster, or declares implausible sizes; the codes are those of
            `raster.io.open_raster`.
    """
    with open_raster(path) as source:
        profile = read_profile(source)
        extras = _extras(source, profile)
        footprint, warnings = _footprint(source)
    warnings += read_side_files(path).faults
    if warnings:
        extras["warnings"] = warnings
    if footprint is None:
        return RasterMetadata(profile, None, None, extras)
    return RasterMetadata(profile, footprint.outline, footprint.centre, extras)


def _extras(source: Any, profile: RasterProfile) -> dict[str, Any]:
    extras: dict[str, Any] = {"driver": source.driver}
    structure = source.tags(ns="IMAGE_STRUCTURE")
    for name in ("COMPRESSION", "LAYOUT"):
        if name in structure:
            extras[name.lower()] = structure[name]
    if profile.geotransform is not None:
        _, x_by_col, x_by_row, _, y_by_col, y_by_row = profile.geotransform
        extras["resolution"] = [
            math.hypot(x_by_col, y_by_col),
            math.hypot(x_by_row, y_by_row),
        ]
    if points := _control_points(source):
        extras["controlPoints"] = points
    statistics = [_stored_statistics(source.tags(band)) for band in range(1, profile.count + 1)]
    if any(statistics):
        extras["statistics"] = statistics
    return extras


def _stored_statistics(tags: Mapping[str, str]) -> dict[str, float] | None:
    """Band statistics stored in the file; computing them would mean reading every pixel."""
    names = {"min": "MINIMUM", "max": "MAXIMUM", "mean": "MEAN", "stdDev": "STDDEV"}
    try:
        return {name: float(tags[f"STATISTICS_{tag}"]) for name, tag in names.items()}
    except (KeyError, ValueError):
        return None


def _control_points(source: Any) -> dict[str, Any] | None:
    """Number and CRS of the raster's ground control points; None if it has none."""
    gcps, crs = source.gcps
    return {"count": len(gcps), "crs": crs_text(crs)} if gcps else None


def _footprint(source: Any) -> tuple[Footprint | None, list[str]]:
    """Footprint of the outline, or the reason why a raster that says something about its place has none."""
    try:
        placement = placement_of(source)
    except InvalidInput as error:
        says_something = source.crs or not source.transform.is_identity or source.gcps[0] or source.rpcs
        return None, [error.message] if says_something else []
    *outline, centre = placement.outline()
    # Corners may lie outside of the CRS's area, such as those of a full disc that a satellite sees.
    return footprint_of(placement.crs, outline, centre) or footprint_of_all([bounds_deg(placement)]), []
