"""Copy of a layer in which every geometry is as the tiles draw it, and what became of each feature."""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

import shapely
from shapely.geometry.base import BaseGeometry

from aerotask.derivatives.vector_source import Layer, VectorFile, copy_layer
from aerotask.derivatives.vector_tiles.geometries import Drawable, LayerProjection, Undrawable, drawables
from aerotask.derivatives.vector_tiles.zooms import MAX_ZOOM, TileExtent, tiles_of
from aerotask.metadata.ogr import DataSourceError

ID_COLUMN = "OGC_FID"
"""The name by which GDAL's Arrow interface knows the ids of a layer without a column of ids (`DEFAULT_ARROW_FID_NAME`)."""
PART_STEP = 2**32
"""Ids of a feature's further parts differ from its own by multiples of this; MVT has ids of up to 64 bits."""
FIRST_IDS = 5
"""Ids listed in a warning."""
_ROWS = 5_000
_CHUNK_BYTES = 16 * 1024 * 1024
_MAX_PARTS = 1_000
_FAR_APART = 4
"""A feature is tiled in parts if its bounds touch so many times the tiles of its parts' bounds."""
_MIN_TILES = 1_000
_GEOMETRY_COLUMN = "tiled_geometry"
_ENVELOPE_BYTES = (0, 32, 48, 48, 64)
"""By the envelope code of a geometry's flags (OGC 12-128r18, 2.1.3)."""


@dataclass(slots=True)
class FeatureTally:
    """Count of features with their first ids."""

    count: int = 0
    first_ids: list[int] = field(default_factory=list)

    def add(self, feature_id: int) -> None:
        """Count one feature in."""
        self.count += 1
        if len(self.first_ids) < FIRST_IDS:
            self.first_ids.append(feature_id)


@dataclass(slots=True)
class StagedLayer:
    """A layer's copy at `path`, in a GeoPackage in degrees, with the ids of the features in it."""

    layer: Layer
    path: Path
    extent: TileExtent = field(default_factory=TileExtent)
    ids: list[int] = field(default_factory=list)
    undrawable: dict[Undrawable, FeatureTally] = field(default_factory=dict)
    repaired: FeatureTally = field(default_factory=FeatureTally)
    renamed: str | None = None
    """An attribute that had to give up its name."""


def stage(vector: VectorFile, layer: Layer, path: Path) -> StagedLayer:
    """Copy the layer into a GeoPackage at `path`, and make its geometries drawable there.

    Raises:
        rasterio.errors.CRSError: PROJ doesn't know the layer's coordinate system.
    """
    projection = LayerProjection.of(layer.crs or "")
    staged = StagedLayer(layer, path)
    _copy(vector, layer, staged)
    with closing(sqlite3.connect(path)) as database, database:
        table = _Table(database, layer.name)
        for rows in table.chunks():
            found = drawables([_wkb(blob) for _, blob in rows], projection)
            drawn: list[BaseGeometry] = []
            for (feature_id, _), drawable in zip(rows, found, strict=True):
                drawn += _store(table, staged, feature_id, drawable)
            staged.extent.add(shapely.bounds(drawn), shapely.get_num_coordinates(drawn))
    return staged


def _copy(vector: VectorFile, layer: Layer, staged: StagedLayer) -> None:
    """Copy with the features' own ids if the tiles can have them, else numbered from 1."""
    taken = {name.lower() for name in layer.fields}
    keeps_ids = (layer.id_column or ID_COLUMN).lower() not in taken
    if keeps_ids:
        try:
            _copy_with(vector, layer, staged.path, layer.id_column or ID_COLUMN, keeps_ids=True)
            keeps_ids = _has_usable_ids(staged.path, layer)
        except (DataSourceError, RuntimeError):  # the ids aren't unique
            keeps_ids = False
    if not keeps_ids:
        staged.path.unlink(missing_ok=True)
        _copy_with(vector, layer, staged.path, _free_name("numbered_id", taken), keeps_ids=False)
    staged.renamed = _claim_id_column(staged.path, layer.name)


def _copy_with(vector: VectorFile, layer: Layer, path: Path, id_column: str, *, keeps_ids: bool) -> None:
    options = {"FID": id_column, "GEOMETRY_NAME": _GEOMETRY_COLUMN, "SPATIAL_INDEX": "NO"}
    copy_layer(
        vector,
        layer,
        path,
        driver="GPKG",
        geometry_type="Unknown",
        crs="EPSG:4326",
        keeps_ids=keeps_ids,
        layer_options=options,
    )


def _has_usable_ids(path: Path, layer: Layer) -> bool:
    name = layer.id_column or ID_COLUMN
    with closing(sqlite3.connect(path)) as database:
        lowest, highest, count = database.execute(
            f"SELECT min({_quoted(name)}), max({_quoted(name)}), count(*) FROM {_quoted(layer.name)}"  # noqa: S608  identifiers, quoted
        ).fetchone()
    return count == layer.features and (not count or (lowest >= 0 and highest < PART_STEP))


def _claim_id_column(path: Path, table: str) -> str | None:
    """Give the column of ids the name under which GDAL finds it; returns the attribute that had it before."""
    with closing(sqlite3.connect(path)) as database, database:
        columns = list(database.execute(f"PRAGMA table_info({_quoted(table)})"))
        [key] = [name for _, name, *_, is_key in columns if is_key]
        taken = {name.lower() for _, name, *_ in columns}
        renamed = next(
            (name for _, name, *_ in columns if name.lower() == ID_COLUMN.lower() and name != key), None
        )
        if renamed is not None:
            free = _free_name(renamed, taken)
            database.execute(
                f"ALTER TABLE {_quoted(table)} RENAME COLUMN {_quoted(renamed)} TO {_quoted(free)}"
            )
        if key != ID_COLUMN:
            database.execute(
                f"ALTER TABLE {_quoted(table)} RENAME COLUMN {_quoted(key)} TO {_quoted(ID_COLUMN)}"
            )
    return renamed


def _free_name(name: str, taken: set[str]) -> str:
    return next(
        free for free in (f"{name}_{number}" for number in range(1, 1000)) if free.lower() not in taken
    )


class _Table:
    """Table of the copy, with a column of ids and one of geometries."""

    def __init__(self, database: sqlite3.Connection, name: str) -> None:
        self._database = database
        self._name = _quoted(name)
        columns = database.execute(f"PRAGMA table_info({self._name})")
        self._others = [_quoted(each) for _, each, *_ in columns if each not in {ID_COLUMN, _GEOMETRY_COLUMN}]

    def chunks(self) -> Iterator[list[tuple[int, bytes | None]]]:
        """Ids and geometries in chunks of a few thousand features and some MiB."""
        after = -1
        while True:
            sizes = self._rows(f"ifnull(length({_GEOMETRY_COLUMN}), 0)", after, PART_STEP - 1, _ROWS)
            if not sizes:
                return
            sums = accumulate(size for _, size in sizes)
            fitting = [row for (row, _), total in zip(sizes, sums, strict=True) if total <= _CHUNK_BYTES]
            last = fitting[-1] if fitting else sizes[0][0]
            yield self._rows(_GEOMETRY_COLUMN, after, last, _ROWS)
            after = last

    def remove(self, feature_id: int) -> None:
        """Remove a feature."""
        self._database.execute(
            f"DELETE FROM {self._name} WHERE {ID_COLUMN} = ?",  # noqa: S608  an identifier, quoted
            (feature_id,),
        )

    def change(self, feature_id: int, geometry: BaseGeometry) -> None:
        """Give a feature another geometry."""
        self._database.execute(
            f"UPDATE {self._name} SET {_GEOMETRY_COLUMN} = ? WHERE {ID_COLUMN} = ?",  # noqa: S608  as above
            (_blob(geometry), feature_id),
        )

    def add_part(self, feature_id: int, part: int, geometry: BaseGeometry) -> None:
        """Add a row for another part of a feature, with the same attributes."""
        names = ", ".join([ID_COLUMN, _GEOMETRY_COLUMN, *self._others])
        values = ", ".join(["?", "?", *self._others])
        self._database.execute(
            f"INSERT INTO {self._name} ({names}) SELECT {values} FROM {self._name} WHERE {ID_COLUMN} = ?",  # noqa: S608  as above
            (feature_id + part * PART_STEP, _blob(geometry), feature_id),
        )

    def _rows(self, value: str, after: int, last: int, limit: int) -> list[tuple[int, Any]]:
        return self._database.execute(
            f"SELECT {ID_COLUMN}, {value} FROM {self._name} "  # noqa: S608  as above
            f"WHERE {ID_COLUMN} > ? AND {ID_COLUMN} <= ? ORDER BY {ID_COLUMN} LIMIT ?",
            (after, last, limit),
        ).fetchall()


def _store(table: _Table, staged: StagedLayer, feature_id: int, drawable: Drawable) -> list[BaseGeometry]:
    """Write what is drawn of the feature; returns its geometries."""
    if drawable.undrawable is not None:
        staged.undrawable.setdefault(drawable.undrawable, FeatureTally()).add(feature_id)
        table.remove(feature_id)
        return []
    if drawable.is_repaired:
        staged.repaired.add(feature_id)
    parts = [part for geometry in drawable.parts for part in _separate(geometry)]
    staged.ids.append(feature_id)
    if len(parts) > 1 or drawable.is_changed:
        table.change(feature_id, parts[0])
    for number, part in enumerate(parts[1:], start=1):
        table.add_part(feature_id, number, part)
    return parts


def _separate(geometry: BaseGeometry) -> list[BaseGeometry]:
    """The geometry, or its parts if they are so far apart that most tiles between them would be cut in vain."""
    if not geometry.geom_type.startswith("Multi"):
        return [geometry]
    parts = shapely.get_parts(geometry)
    if not 1 < len(parts) <= _MAX_PARTS:
        return [geometry]
    whole = float(tiles_of(shapely.bounds([geometry]), MAX_ZOOM)[0])
    if whole < _MIN_TILES or whole < _FAR_APART * float(tiles_of(shapely.bounds(parts), MAX_ZOOM).sum()):
        return [geometry]
    return list(parts)


def _wkb(blob: bytes | None) -> bytes | None:
    """The WKB within a geometry of a GeoPackage."""
    if blob is None:
        return None
    envelope = (blob[3] >> 1) & 7
    return blob[8 + _ENVELOPE_BYTES[envelope] :]


def _blob(geometry: BaseGeometry) -> bytes:
    """Geometry of a GeoPackage: little-endian, without an envelope."""
    return b"GP\0\x01" + struct.pack("<i", 4326) + bytes(shapely.to_wkb(geometry, byte_order=1))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
