"""Checks of a cutline's vector file by its size and layers: the same from the index and from the file itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from aerotask.domain.errors import InvalidInput
from aerotask.domain.paths import shown
from aerotask.metadata.file_types import suffix_of
from aerotask.raster.export.cutline_geojson import no_polygon

MIB = 1024 * 1024
MAX_BINARY_BYTES, MAX_TEXT_BYTES = 32 * MIB, 16 * MIB
"""Limits of a file's size: GDAL reads some text formats as a whole, which takes 30 times their size in memory."""
_BINARY = frozenset({"gpkg", "fgb", "shp"})
MAX_FEATURES = 100_000

LayerFacts = tuple[str | None, str | None, int]
"""Geometry type in GDAL's words, CRS, and number of features."""


def check_file_size(path: str, size_bytes: int) -> None:
    """Check the size of a cutline's file.

    Raises:
        InvalidInput: it is too large (`cutline-too-large`).
    """
    limit = MAX_BINARY_BYTES if suffix_of(path) in _BINARY else MAX_TEXT_BYTES
    if size_bytes > limit:
        raise _too_large(f"{shown(path)} has {size_bytes / MIB:,.0f} MiB; at most {limit / MIB:,.0f} MiB")


def check_layers(what: str, layers: Sequence[LayerFacts], warning: str | None) -> None:
    """Check that a layer may have polygons, in a known coordinate system.

    `warning` says why the coordinates can't be in the system that the file names, if that is so.

    Raises:
        InvalidInput: none has (`invalid-cutline`, `not-georeferenced`), or there are too many features
            (`cutline-too-large`).
    """
    features = sum(count for _, _, count in layers)
    if features > MAX_FEATURES:
        raise _too_large(f"{what} has {features:,} features; at most {MAX_FEATURES:,}")
    able = [layer for layer in layers if may_have_polygons(layer[0]) and layer[2]]
    if not able:
        others: Counter[str] = Counter()
        for kind, _, count in layers:
            if count:
                others[f"{kind} features" if kind else "features without a geometry"] += count
        raise no_polygon(what, others)
    if not any(crs for _, crs, _ in able):
        raise InvalidInput(
            warning
            or f"{what} names no coordinate system, so its polygons' place on the Earth is unknown; upload it as a "
            "GeoPackage, or as a Shapefile with its .prj.",
            code="not-georeferenced",
        )


def may_have_polygons(geometry_type: str | None) -> bool:
    """Whether a layer of this type (in GDAL's words) may have polygons."""
    return geometry_type is not None and not any(
        word in geometry_type for word in ("Point", "Line", "CircularString", "CompoundCurve", "MultiCurve")
    )


def _too_large(why: str) -> InvalidInput:
    return InvalidInput(f"The cutline is too large: {why} can be used.", code="cutline-too-large")
