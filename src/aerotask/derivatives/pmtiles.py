"""PMTiles builder: a vector file as one archive of vector tiles, with every layer at every zoom."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rasterio.errors import CRSError

from aerotask.derivatives.pmtiles_merge import ArchiveDescription, join_archives
from aerotask.derivatives.vector_source import Layer, VectorFile, collect_warnings, open_vector
from aerotask.derivatives.vector_tiles.report import layer_warnings, why_nothing
from aerotask.derivatives.vector_tiles.staging import PART_STEP, StagedLayer, stage
from aerotask.derivatives.vector_tiles.zooms import TileExtent, max_zoom, work_limit
from aerotask.domain.errors import InvalidInput
from aerotask.domain.paths import shown
from aerotask.metadata.file_types import suffix_of
from aerotask.metadata.ogr import pyogrio


def build_pmtiles(source: Path, target: Path, *, on_progress: Callable[[float], None]) -> dict[str, Any]:
    """Write the vector file at `source` as PMTiles at `target`, which must not exist.

    Raises:
        InvalidInput: the file can't be read (`unreadable-vector`), is not georeferenced (`not-georeferenced`), has no
            geometries that a map can show (`nothing-to-show`), or too many even for one tile (`vector-too-large`).
        TaskFailed: the tiles can't be read back (`derivative-damaged`).
    """
    warnings: list[str] = []
    with (
        collect_warnings(warnings, source),
        open_vector(source, folder=target.parent) as vector,
    ):
        layers, skipped = _choose(vector)
        staged = list(_staged(vector, layers, target.parent))
        on_progress(0.3)
        drawn = [layer for layer in staged if layer.ids]
        if not drawn:
            raise why_nothing(staged)
        extent = TileExtent()
        for layer in drawn:
            extent.merge(layer.extent)
        zoom = _zoom(source, extent, warnings)
        archives: list[Path] = []
        shown_features = 0
        for number, layer in enumerate(drawn):
            archive = target.with_name(f"layer-{number}.pmtiles")
            lost = _tile(layer, archive, zoom, vector.source.stem)
            archives.append(archive)
            shown_features += len(layer.ids) - len(lost)
            on_progress(0.3 + 0.6 * (number + 1) / len(drawn))
            warnings += layer_warnings(layer, lost)
        if not shown_features:
            raise InvalidInput(
                "No feature can be shown on a map: all are too small even for the most detailed zoom.",
                code="nothing-to-show",
            )
        description = ArchiveDescription(
            vector.source.stem, extent.bounds, extent.centre, min(extent.centre_zoom, zoom), zoom
        )
        min_zoom = join_archives(archives, target, description)
    on_progress(1)
    warnings += [
        layer.warning or f"Layer {shown(layer.name)} is not in the tiles: it has no coordinate system."
        for layer in skipped
    ]
    return {
        "layers": [layer.layer.name for layer in drawn],
        "minZoom": min_zoom,
        "maxZoom": zoom,
        "warnings": warnings,
    }


def _choose(vector: VectorFile) -> tuple[list[Layer], list[Layer]]:
    """Layers that can be shown on a map, and layers with geometries that lack a coordinate system."""
    spatial = [layer for layer in vector.layers if layer.geometry_type and layer.features]
    if not spatial:
        raise InvalidInput(
            "The file has no features with a geometry, so there is nothing to show.", code="nothing-to-show"
        )
    georeferenced = [layer for layer in spatial if layer.crs]
    if not georeferenced:
        raise InvalidInput(
            next((layer.warning for layer in spatial if layer.warning), None)
            or f"{shown(vector.path.name)} declares no coordinate system, so its features can't be shown on a map. "
            + _how_to_declare(vector.path),
            code="not-georeferenced",
        )
    return georeferenced, [layer for layer in spatial if layer not in georeferenced]


def _how_to_declare(path: Path) -> str:
    kind = suffix_of(path.name)
    if kind == "shp" and any(
        beside.name.lower() == f"{path.stem}.prj".lower() for beside in path.parent.iterdir()
    ):
        return "Its .prj file holds none that can be understood: replace it, then rescan the index."
    ways = {
        "shp": "Upload its .prj file into the same folder under the same name.",
        "dxf": "Export the drawing as a GeoPackage or a Shapefile with its coordinate system.",
        "zip": "Pack its .prj file into the archive, or replace it if it is there.",
        "shz": "Pack its .prj file into the archive, or replace it if it is there.",
    }
    return ways.get(kind, "Assign it in a GIS ('ogr2ogr -a_srs'), and upload the result.")


def _staged(vector: VectorFile, layers: Sequence[Layer], folder: Path) -> Iterator[StagedLayer]:
    for number, layer in enumerate(layers):
        try:
            yield stage(vector, layer, folder / f"staged-{number}.gpkg")
        except CRSError:
            raise InvalidInput(
                f"The coordinate system of layer {shown(layer.name)} can't be transformed to longitudes and latitudes, "
                "so its features can't be shown on a map. Transform them to WGS 84 (EPSG:4326).",
                code="not-georeferenced",
            ) from None


def _zoom(source: Path, extent: TileExtent, warnings: list[str]) -> int:
    """Most detailed zoom that the extent asks for and that the bound of the work allows."""
    wanted = max_zoom(extent.size_deg)
    limit = work_limit(source.stat().st_size)
    allowed = extent.zoom_within(limit)
    if allowed is None:
        raise InvalidInput(
            f"Even a single tile would hold {extent.work[0]:,.0f} features, more than the {limit:,.0f} that a build "
            "from a file of this size may cut. Split the file.",
            code="vector-too-large",
        )
    if allowed < wanted:
        warnings.append(
            f"The tiles end at zoom {allowed} instead of {wanted}: with all zooms, features would have to be cut "
            f"{extent.work[: wanted + 1].sum():,.0f} times, more than the {limit:,.0f} times that a build from a file "
            "of this size may. Split the file for more detail."
        )
    return min(wanted, allowed)


def _tile(staged: StagedLayer, archive: Path, zoom: int, name: str) -> list[int]:
    """Write the tiles of one layer to an archive of its own, as GDAL requires, and read them back.

    Returns:
        Ids of the features that are in none of the most detailed tiles.
    """
    opened = pyogrio.raw.open_arrow(staged.path, layer=staged.layer.name, use_pyarrow=False, return_fids=True)
    with opened as (metadata, features):
        pyogrio.raw.write_arrow(
            features,
            archive,
            layer=staged.layer.name,
            driver="PMTiles",
            geometry_name=metadata["geometry_name"],
            geometry_type="Unknown",
            crs="EPSG:4326",
            dataset_options={"MINZOOM": "0", "MAXZOOM": str(zoom), "NAME": name},
        )
    staged.path.unlink()
    return sorted(set(staged.ids) - _ids_in(archive))


def _ids_in(archive: Path) -> set[int]:
    """Ids of the features in the most detailed tiles, which GDAL reads by default."""
    try:
        _, _, _, fields = pyogrio.raw.read(archive, columns=["mvt_id"], read_geometry=False)
    except pyogrio.errors.DataSourceError:  # there is not a single tile
        return set()
    ids = np.asarray(fields[0], np.float64) if len(fields) else np.empty(0)
    return {int(each) % PART_STEP for each in np.unique(ids[np.isfinite(ids)])}
