"""Makes vector tiles of a vector file, for web maps: one PMTiles archive with every layer at every zoom."""

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
    copy_layer,
    feature_counts,
    noting_warnings,
    open_vector,
    readable,
)
from aerotask.domain.errors import InvalidInput, TaskFailed

MAX_ZOOM = 16
"""A tile's grid of 4096 steps is 15 cm wide there."""
MIN_MAX_ZOOM = 5
TILES_ACROSS = 128
"""The most detailed zoom shows the whole extent in about so many tiles across."""

_WORLD_DEG = 360.0


def build_pmtiles(source: Path, target: Path, *, on_progress: Callable[[float], None]) -> dict[str, Any]:
    """Write the vector file at `source` as PMTiles at `target`, which must not exist.

    Raises:
        InvalidInput: the file can't be read (`unreadable-vector`), says nowhere where it lies (`not-georeferenced`),
            or shows nothing (`nothing-to-show`).
        TaskFailed: what was written doesn't read back as it should (`derivative-damaged`).
    """
    noted: list[str] = []
    with noting_warnings(noted), readable(source):
        vector = open_vector(source)
        layers, left_out = _choose(vector)
        zoom = max(max_zoom(_extent_deg(layer)) for layer in layers)
        archives = []
        for number, layer in enumerate(layers):
            archive = target.with_name(f"layer-{number}.pmtiles")
            lost = layer.features - _tile(vector, layer, archive, zoom)
            archives.append(archive)
            if lost > 0:
                noted.append(
                    f"Layer '{layer.name}': {lost:,} of {layer.features:,} features are in no tile, even of the most "
                    "detailed zoom: too many lie in one place, or they have no place or size. The GeoPackage has all."
                )
            on_progress(0.8 * (number + 1) / len(layers))
        join_archives(archives, target)
    on_progress(1)
    noted += [f"Layer '{layer.name}' is not in the tiles: nothing tells where it lies." for layer in left_out]
    return {"layers": [layer.name for layer in layers], "minZoom": 0, "maxZoom": zoom, "warnings": noted}


def max_zoom(extent_deg: float) -> int:
    """The most detailed zoom for a layer that is so many degrees wide or high."""
    if extent_deg <= 0:
        return MAX_ZOOM
    zoom = math.ceil(math.log2(_WORLD_DEG / extent_deg * TILES_ACROSS))
    return min(max(zoom, MIN_MAX_ZOOM), MAX_ZOOM)


def _tile(vector: VectorFile, layer: Layer, archive: Path, zoom: int) -> int:
    """Write the tiles of one layer, which GDAL can do only as an archive of its own, and read them back.

    Returns:
        How many features the most detailed tiles have; one in several tiles counts in each.
    """
    options = {"MINZOOM": "0", "MAXZOOM": str(zoom)}
    copy_layer(vector, layer, archive, driver="PMTiles", dataset_options=options)
    found = sum(feature_counts(archive).values())
    if not found:
        raise TaskFailed(
            f"The vector tiles of layer '{layer.name}' don't read back as they should.",
            code="derivative-damaged",
        )
    return found


def _choose(vector: VectorFile) -> tuple[list[Layer], list[Layer]]:
    """The layers that can be shown on a map, and those that can't although they hold places."""
    spatial = [layer for layer in vector.layers if layer.geometry_type and layer.features]
    if not spatial:
        raise InvalidInput(
            "The file holds no feature with a place, so there is nothing to show.", code="nothing-to-show"
        )
    placed = [layer for layer in spatial if layer.crs and layer.bounds]
    if not placed:
        raise InvalidInput(
            "The file says nowhere in which coordinate system its features lie, so they can't be put on a map; "
            "a Shapefile needs its .prj file.",
            code="not-georeferenced",
        )
    return placed, [layer for layer in spatial if layer not in placed]


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
