"""Metadata of vector files: driver, layers, feature counts, extents and CRS."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aerotask.domain.errors import InvalidInput
from aerotask.domain.paths import shown
from aerotask.metadata.geojson import Bounds, Footprint, footprint_of_all, footprint_of_bounds
from aerotask.metadata.ogr import DataLayerError, DataSourceError, pyogrio
from aerotask.metadata.vectors.formats import FORMATS, HEAD_BYTES, MIB
from aerotask.metadata.vectors.source import (
    LayerInfo,
    Unreadable,
    VectorSource,
    open_source,
    unreadable,
    why_unreadable,
)

MAX_LAYERS = 64
MAX_FIELDS = 256
"""Fields listed per layer."""
MAX_LISTED_CHARS = 100_000
"""Characters of field names and CRSs in all layers together; further ones are left out."""
MAX_CRS_CHARS = 20_000


@dataclass(frozen=True, slots=True)
class VectorMetadata:
    """Properties of a vector file, with its footprint if its CRS is known."""

    properties: Mapping[str, Any] = field(default_factory=dict)
    footprint: Footprint | None = None


def may_be_vector(path: Path, kind: str) -> bool:
    """Whether the file at `path`, whose suffix doesn't tell, begins like a vector file."""
    with path.open("rb") as content:
        return FORMATS[kind].begins(path, content.read(HEAD_BYTES))


def extract_vector(path: Path, kind: str) -> VectorMetadata:
    """Extracts the metadata of the vector file at `path`, whose kind is given as its suffix; side files are beside it.

    Raises:
        InvalidInput: it is not a vector file of the kind that its name says (`unreadable-vector`), it is too large
            (`vector-too-large`), a side file is missing (`missing-side-file`), or a view takes too long to compute
            (`vector-too-slow`).
    """
    file_bytes, max_bytes = path.stat().st_size, FORMATS[kind].max_index_bytes
    with open_source(path, kind) as source:
        if file_bytes > max_bytes:
            raise InvalidInput(
                f"{shown(path.name)} has {file_bytes / MIB:,.0f} MiB; metadata are extracted from files of this kind up "
                f"to {max_bytes / MIB:,.0f} MiB. Convert it to a GeoPackage, or split it.",
                code="vector-too-large",
            )
        pyogrio.set_gdal_config_options({"GDAL_NUM_THREADS": "1"})
        try:
            return _metadata(source)
        except MemoryError:
            raise
        except (DataSourceError, DataLayerError, Unreadable, UnicodeError) as error:
            raise unreadable(path, why_unreadable(error, path, kind)) from error
        # pyogrio fails on some results of GDAL, such as a CRS that it can't decode.
        except Exception as error:
            raise unreadable(path, "its metadata can't be decoded") from error


def _metadata(source: VectorSource) -> VectorMetadata:
    found, layer_count = source.layers(MAX_LAYERS)
    layers = _bounded([_layer(layer) for layer in found])
    bounds = [
        _bounds_4326(layer, source.longitudes_across(info)) for info, layer in zip(found, layers, strict=True)
    ]
    properties: dict[str, Any] = {
        "driver": found[0].info["driver"],
        "layerCount": layer_count,
        "layers": layers,
        "featureCount": sum(layer["featureCount"] for layer in layers),
    }
    warnings = [layer.warning for layer in found if layer.warning]
    if warnings:
        properties["warnings"] = warnings
    known = [each for each in bounds if each is not None]
    if not known:
        return VectorMetadata(properties)
    return VectorMetadata(properties, footprint_of_all(known))


def _layer(layer: LayerInfo) -> dict[str, Any]:
    info = layer.info
    names, types = list(info["fields"]), list(info["ogr_types"])
    bounds = layer.bounds
    return {
        "name": layer.name[:200],
        "geometryType": info["geometry_type"],
        "featureCount": max(int(info["features"]), 0),
        "crs": layer.crs if len(layer.crs or "") <= MAX_CRS_CHARS else None,
        "bounds": None if bounds is None or not all(map(math.isfinite, bounds)) else list(bounds),
        "fields": [
            {"name": str(name)[:200], "type": str(kind).removeprefix("OFT")}
            for name, kind in zip(names, types, strict=True)
        ],
    }


def _bounded(layers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The layers, with their field lists cut to what an index may hold."""
    left = MAX_LISTED_CHARS
    for layer in layers:
        left -= len(layer["crs"] or "") + len(layer["name"])
        fields = layer["fields"]
        layer["fieldCount"], layer["fields"] = len(fields), []
        for each in fields[:MAX_FIELDS]:
            left -= len(each["name"])
            if left < 0:
                break
            layer["fields"].append(each)
    return layers


def _bounds_4326(layer: Mapping[str, Any], across: tuple[float, float] | None) -> Bounds | None:
    """Bounds of the layer in degrees; `across` are its west and east if it lies on both sides of ±180°."""
    if layer["crs"] is None or layer["bounds"] is None or not layer["featureCount"]:
        return None
    x0, y0, x1, y1 = layer["bounds"]
    if across is not None:
        return across[0], max(y0, -90.0), across[1], min(y1, 90.0)
    footprint = footprint_of_bounds(layer["crs"], (x0, y0, x1, y1))
    return None if footprint is None else footprint.bounds
