"""GeoPackage builder: every layer of a vector file with every attribute, in its own coordinate system."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from aerotask.derivatives.vector_source import (
    Layer,
    VectorFile,
    collect_warnings,
    copy_layer,
    feature_counts,
    open_vector,
)
from aerotask.domain.errors import TaskFailed
from aerotask.domain.paths import shown

_ID_NAMES = ("fid", "ogc_fid", "gpkg_fid")
_GEOMETRY_NAMES = ("geom", "geometry", "gpkg_geom")


def build_gpkg(source: Path, target: Path, *, on_progress: Callable[[float], None]) -> dict[str, Any]:
    """Write the layers of the vector file at `source` as a GeoPackage at `target`, which must not exist.

    Features are streamed, so memory doesn't depend on their number.

    Raises:
        InvalidInput: the file can't be read (`unreadable-vector`).
        TaskFailed: the GeoPackage reads back with other features (`derivative-damaged`).
    """
    warnings: list[str] = []
    with (
        collect_warnings(warnings, source),
        open_vector(source, folder=target.parent) as vector,
    ):
        for done, layer in enumerate(vector.layers, start=1):
            copy_layer(
                vector,
                layer,
                target,
                driver="GPKG",
                crs=layer.crs,
                geometry_type=layer.geometry_type,
                layer_options=_options(layer),
            )
            on_progress(0.9 * done / len(vector.layers))
        _check(vector, target)
    on_progress(1)
    warnings += [layer.warning for layer in vector.layers if layer.warning]
    return {
        "layers": [
            {"name": layer.name, "features": layer.features, "crs": layer.crs} for layer in vector.layers
        ],
        "warnings": warnings,
    }


def _options(layer: Layer) -> dict[str, str]:
    """Names for the id and geometry columns that don't collide with attributes."""
    taken = {name.lower() for name in layer.fields}
    fid = next((name for name in _ID_NAMES if name not in taken), "fid")
    geometry = next((name for name in _GEOMETRY_NAMES if name not in taken), "geom")
    return {"FID": fid, "GEOMETRY_NAME": geometry} if layer.geometry_type else {"FID": fid}


def _check(vector: VectorFile, target: Path) -> None:
    found = feature_counts(target)
    expected = {layer.name: layer.features for layer in vector.layers}
    if found != expected:
        differing = ", ".join(
            f"{found.get(name, 0):,} instead of {count:,} in layer {shown(name)}"
            for name, count in expected.items()
            if found.get(name) != count
        )
        raise TaskFailed(
            f"The GeoPackage reads back with other features: {differing or 'there are more layers'}.",
            code="derivative-damaged",
        )
