"""What the index keeps of a raster: its profile, and where on Earth it lies."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aerotask.metadata.geojson import Footprint, GeoJson, place_of
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
    """What the index tells beside the profile: see `docs/metadata.md`."""

    @property
    def is_georeferenced(self) -> bool:
        """Whether the raster says where it lies."""
        return self.footprint is not None


def describe(path: Path) -> RasterMetadata:
    """Read the raster's header; no pixels are touched.

    Raises:
        InvalidInput: the file is no raster that can be read here, or declares more than is sensible; the codes are
            those of `raster.io.open_raster`.
    """
    with open_raster(path) as source:
        profile = read_profile(source)
        extras = _extras(source, profile)
    place = _place(profile)
    if place is None:
        return RasterMetadata(profile, None, None, extras)
    return RasterMetadata(profile, place.outline, place.centre, extras)


def _extras(source: Any, profile: RasterProfile) -> dict[str, Any]:
    extras: dict[str, Any] = {"driver": source.driver}
    if compression := source.tags(ns="IMAGE_STRUCTURE").get("COMPRESSION"):
        extras["compression"] = compression
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
    """The statistics that whoever wrote the file left in it: computing them would mean reading every pixel."""
    names = {"min": "MINIMUM", "max": "MAXIMUM", "mean": "MEAN", "stdDev": "STDDEV"}
    try:
        return {name: float(tags[f"STATISTICS_{tag}"]) for name, tag in names.items()}
    except (KeyError, ValueError):
        return None


def _place(profile: RasterProfile) -> Footprint | None:
    """The outline of the four corners and the centre, or None without a CRS that leads to EPSG:4326."""
    if profile.crs is None or profile.geotransform is None:
        return None
    x0, x_by_col, x_by_row, y0, y_by_col, y_by_row = profile.geotransform
    right, bottom = profile.width, profile.height

    def at(col: float, row: float) -> tuple[float, float]:
        return x0 + x_by_col * col + x_by_row * row, y0 + y_by_col * col + y_by_row * row

    corners = [at(0, 0), at(0, bottom), at(right, bottom), at(right, 0)]
    return place_of(profile.crs, corners, at(right / 2, bottom / 2))
