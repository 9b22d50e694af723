"""Metadata of rasters: profile, footprint and stored statistics."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aerotask.metadata.geojson import Footprint, GeoJson, footprint_of
from aerotask.raster.header import read_profile
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
    footprint = _footprint(profile)
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


def _footprint(profile: RasterProfile) -> Footprint | None:
    """Footprint of the four corners; None without a CRS that can be transformed to EPSG:4326."""
    if profile.crs is None or profile.geotransform is None:
        return None
    x0, x_by_col, x_by_row, y0, y_by_col, y_by_row = profile.geotransform
    right, bottom = profile.width, profile.height

    def xy(col: float, row: float) -> tuple[float, float]:
        return x0 + x_by_col * col + x_by_row * row, y0 + y_by_col * col + y_by_row * row

    corners = [xy(0, 0), xy(0, bottom), xy(right, bottom), xy(right, 0)]
    return footprint_of(profile.crs, corners, xy(right / 2, bottom / 2))
