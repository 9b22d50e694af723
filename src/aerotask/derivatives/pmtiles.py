"""PMTiles builder: a vector file as one archive of vector tiles, with every layer at every zoom."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.warp import transform_bounds

from aerotask.derivatives.pmtiles_merge import join_archives
from aerotask.derivatives.vector_source import (
    Layer,
    VectorFile,
    collect_warnings,
    copy_layer,
    feature_counts,
    open_vector,
    vector_errors,
)
from aerotask.domain.errors import InvalidInput, TaskFailed

MAX_ZOOM = 16
"""At this zoom a step of a tile's 4096-step grid is 15 cm."""
MIN_MAX_ZOOM = 5
TILES_ACROSS = 128
"""Approximate number of tiles across the whole extent at the most detailed zoom."""

_WORLD_DEG = 360.0


def build_pmtiles(source: Path, target: Path, *, on_progress: Callable[[float], None]) -> dict[str, Any]:
    """Write the vector file at `source` as PMTiles at `target`, which must not exist.

    Raises:
        InvalidInput: the file can't be read (`unreadable-vector`), is not georeferenced (`not-georeferenced`), or has
            no geometries (`nothing-to-show`).
        TaskFailed: the tiles can't be read back (`derivative-damaged`).
    """
    warnings: list[str] = []
    with collect_warnings(warnings), vector_errors(source):
        vector = open_vector(source)
        layers, skipped = _choose(vector)
        zoom = max(max_zoom(_extent_deg(layer)) for layer in layers)
        archives = []
        for number, layer in enumerate(layers):
            archive = target.with_name(f"layer-{number}.pmtiles")
            lost = layer.features - _tile(vector, layer, archive, zoom)
            archives.append(archive)
            if lost > 0:
                warnings.append(
                    f"Layer '{layer.name}': {lost:,} of {layer.features:,} features are in no tile, even at the most "
                    "detailed zoom: too many are in one place, or they have an empty geometry. The GeoPackage has all."
                )
            on_progress(0.8 * (number + 1) / len(layers))
        join_archives(archives, target)
    on_progress(1)
    warnings += [f"Layer '{layer.name}' is not in the tiles: it is not georeferenced." for layer in skipped]
    return {"layers": [layer.name for layer in layers], "minZoom": 0, "maxZoom": zoom, "warnings": warnings}


def max_zoom(extent_deg: float) -> int:
    """Most detailed zoom for a layer with that extent."""
    if extent_deg <= 0:
        return MAX_ZOOM
    zoom = math.ceil(math.log2(_WORLD_DEG / extent_deg * TILES_ACROSS))
    return min(max(zoom, MIN_MAX_ZOOM), MAX_ZOOM)


def _tile(vector: VectorFile, layer: Layer, archive: Path, zoom: int) -> int:
    """Write the tiles of one layer to an archive of its own, as GDAL requires, and read them back.

    Returns:
        Number of features in the most detailed tiles; a feature in several tiles counts in each.
    """
    options = {"MINZOOM": "0", "MAXZOOM": str(zoom)}
    copy_layer(vector, layer, archive, driver="PMTiles", dataset_options=options)
    found = sum(feature_counts(archive).values())
    if not found:
        raise TaskFailed(
            f"The vector tiles of layer '{layer.name}' read back without features.",
            code="derivative-damaged",
        )
    return found


def _choose(vector: VectorFile) -> tuple[list[Layer], list[Layer]]:
    """Layers that can be shown on a map, and layers with geometries that lack a coordinate system."""
    spatial = [layer for layer in vector.layers if layer.geometry_type and layer.features]
    if not spatial:
        raise InvalidInput(
            "The file has no features with a geometry, so there is nothing to show.", code="nothing-to-show"
        )
    georeferenced = [layer for layer in spatial if layer.crs and layer.bounds]
    if not georeferenced:
        raise InvalidInput(
            "The file declares no coordinate system, so its features can't be shown on a map; a Shapefile needs its "
            ".prj file.",
            code="not-georeferenced",
        )
    return georeferenced, [layer for layer in spatial if layer not in georeferenced]


def _extent_deg(layer: Layer) -> float:
    if layer.bounds is None or not all(map(math.isfinite, layer.bounds)):
        return _WORLD_DEG
    try:
        west, south, east, north = transform_bounds(
            CRS.from_user_input(layer.crs), "EPSG:4326", *layer.bounds
        )
    except CRSError:
        return _WORLD_DEG
    extent = max(east - west, north - south)
    return extent if math.isfinite(extent) else _WORLD_DEG
