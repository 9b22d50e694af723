"""Geometries as a map can draw them: in degrees, valid, cut at ±180° and at the edge of the map, of one dimension each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.warp import transform
from shapely.geometry.base import BaseGeometry

from aerotask.derivatives.vector_tiles.antimeridian import (
    MAX_LATITUDE_DEG,
    collected,
    cut,
    without_jumps,
)
from aerotask.metadata.vectors.degrees import beyond_degrees
from aerotask.raster.io import GDAL_ERRORS

ToDegrees = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Transformation of (n, 2) coordinates, x before y, to longitudes and latitudes; not finite where there is none."""
_WGS84_NAMES = frozenset({"EPSG:4326", "OGC:CRS84"})


class Undrawable(StrEnum):
    """Fault of a feature that is in no tile."""

    NO_GEOMETRY = "no geometry"
    UNREADABLE = "a geometry that can't be read"
    NOT_DEGREES = "coordinates that can't be longitudes and latitudes in degrees"
    OUTSIDE_CRS = "coordinates outside the area that the coordinate system is made for"
    BEYOND_MAP = "a position beyond 85.05° of latitude, where maps in Web Mercator end"
    COLLAPSED = "a geometry of which nothing is left once it is made valid"


@dataclass(frozen=True, slots=True)
class Drawable:
    """A feature's geometries to draw, or the reason why there are none."""

    parts: tuple[BaseGeometry, ...]
    undrawable: Undrawable | None = None
    is_changed: bool = False
    """Whether `parts` differ from the geometry as it was read."""
    is_repaired: bool = False


@dataclass(frozen=True, slots=True)
class LayerProjection:
    """Coordinate system of a layer; None for WGS 84 in degrees."""

    to_degrees: ToDegrees | None
    is_projected: bool

    @classmethod
    def of(cls, crs: str) -> LayerProjection:
        """Projection from that coordinate system.

        Raises:
            rasterio.errors.CRSError: it is none that PROJ knows.
        """
        if crs in _WGS84_NAMES:
            return cls(None, is_projected=False)
        source = CRS.from_user_input(crs)
        return cls(lambda at: _transformed(source, at), is_projected=not source.is_geographic)


def drawables(wkb: Sequence[bytes | None], projection: LayerProjection) -> list[Drawable]:
    """Each geometry as it can be drawn."""
    raw = np.array(list(wkb), dtype=object)
    read = shapely.from_wkb(raw, on_invalid="ignore")
    is_broken = shapely.is_missing(read) & np.array([each is not None for each in wkb], dtype=bool)
    if is_broken.any():  # a ring that isn't closed is
        read[is_broken] = shapely.from_wkb(raw[is_broken], on_invalid="fix")
    flat = shapely.force_2d(read)
    if projection.to_degrees is not None:
        flat = _in_degrees(flat, projection.to_degrees)
    bounds = shapely.bounds(flat)
    is_plain = _is_plain(flat, bounds) & ~is_broken
    return [
        Drawable((geometry,), is_changed=projection.to_degrees is not None)
        if plain
        else _drawable(geometry, box, projection, was_broken=bool(broken))
        for geometry, box, plain, broken in zip(flat, bounds, is_plain, is_broken, strict=True)
    ]


def _is_plain(geometries: NDArray[Any], bounds: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether the geometries are drawn as they are."""
    with np.errstate(invalid="ignore"):
        west, south, east, north = bounds.T
        inside = (west >= -180) & (east <= 180) & (south >= -MAX_LATITUDE_DEG) & (north <= MAX_LATITUDE_DEG)
        jumps = east - west > 180
    is_collection = shapely.get_type_id(geometries) == 7
    plain: NDArray[np.bool_] = inside & ~jumps & ~is_collection & ~shapely.is_empty(geometries)
    plain[plain] = shapely.is_valid(geometries[plain])
    return plain


def _drawable(
    geometry: BaseGeometry | None,
    bounds: NDArray[np.float64],
    projection: LayerProjection,
    *,
    was_broken: bool,
) -> Drawable:
    if geometry is None:
        return Drawable((), Undrawable.UNREADABLE if was_broken else Undrawable.NO_GEOMETRY)
    if geometry.is_empty:
        return Drawable((), Undrawable.NO_GEOMETRY)
    if not np.isfinite(bounds).all() or beyond_degrees(bounds[None, :])[0]:
        outside = Undrawable.OUTSIDE_CRS if projection.to_degrees else Undrawable.NOT_DEGREES
        return Drawable((), outside)
    if bounds[2] - bounds[0] > 180:
        geometry = without_jumps(geometry, any_jump=projection.is_projected)
    is_repaired = was_broken or not geometry.is_valid
    valid = geometry if geometry.is_valid else _made_valid(geometry)
    if valid.is_empty:
        return Drawable((), Undrawable.COLLAPSED)
    parts = tuple(part for part in map(cut, _by_dimension(valid)) if not part.is_empty)
    if not parts:
        return Drawable((), Undrawable.BEYOND_MAP)
    return Drawable(parts, is_changed=True, is_repaired=is_repaired)


def _made_valid(geometry: BaseGeometry) -> BaseGeometry:
    """The geometry with crossing rings split and doubled ones removed; a polygon without area becomes its outline."""
    parts = [
        _without_doubled_rings(part) if part.geom_type == "Polygon" else part
        for part in shapely.get_parts(geometry)
    ]
    whole = shapely.GeometryCollection(parts) if len(parts) > 1 else parts[0]
    if len(parts) > 1 and geometry.geom_type == "MultiPolygon":
        whole = shapely.multipolygons(parts)
    valid = shapely.make_valid(whole, method="structure", keep_collapsed=False)
    return shapely.make_valid(whole, method="structure", keep_collapsed=True) if valid.is_empty else valid


def _without_doubled_rings(polygon: BaseGeometry) -> BaseGeometry:
    """The polygon without holes that are its outline once more, which would leave nothing of it."""
    shell, *holes = shapely.get_rings(polygon)
    outline = shapely.normalize(shapely.polygons(shell))
    kept = [hole for hole in holes if not shapely.normalize(shapely.polygons(hole)).equals_exact(outline)]
    return shapely.polygons(shell, holes=kept or None)


def _by_dimension(geometry: BaseGeometry) -> list[BaseGeometry]:
    """Polygons, lines and points of a collection, one geometry each; another geometry as it is."""
    if geometry.geom_type != "GeometryCollection":
        return [geometry]
    simple = shapely.get_parts(geometry)
    while any(part.geom_type == "GeometryCollection" for part in simple):
        simple = shapely.get_parts(simple)
    simple = shapely.get_parts(simple)
    found = (
        [part for part in simple if shapely.get_dimensions(part) == dimension] for dimension in (2, 1, 0)
    )
    return [collected(parts) for parts in found if parts]


def _in_degrees(geometries: NDArray[Any], to_degrees: ToDegrees) -> NDArray[Any]:
    changed: NDArray[Any] = shapely.transform(geometries, to_degrees)
    return changed


def _transformed(source: CRS, at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coordinates in degrees; where the system has no inverse, they are not finite."""
    if not len(at):
        return at
    try:
        return np.column_stack(transform(source, "EPSG:4326", at[:, 0], at[:, 1]))
    except (*GDAL_ERRORS, ValueError):
        return np.full_like(at, np.inf)
