"""Cutline of an export: polygons of a vector file or of GeoJSON, brought into the pixels of the raster."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.affinity import translate

from aerotask.domain.paths import shown
from aerotask.metadata.file_types import suffix_of
from aerotask.metadata.ogr import DataLayerError, DataSourceError, pyogrio
from aerotask.metadata.vectors.source import (
    LayerInfo,
    Unreadable,
    VectorSource,
    open_source,
    unreadable,
    why_unreadable,
)
from aerotask.raster.export.area import (
    WGS84,
    CutlinePolygons,
    ExportArea,
    outside_raster,
    require_georeference,
    snapped,
    to_pixel,
    transformer_to,
)
from aerotask.raster.export.cutline_geojson import invalid_cutline, no_polygon
from aerotask.raster.export.cutline_limits import MAX_FEATURES, check_layers
from aerotask.raster.export.polygon_mask import PolygonMask
from aerotask.raster.profile import RasterProfile

MAX_BEND_PX = 0.01
"""An edge that is straight in its own CRS gets further points until it deviates by no more from its course in pixels."""
MAX_POINTS = 5_000_000
_MAX_HALVINGS = 12
_POLYGON, _MULTIPOLYGON, _COLLECTION = 3, 6, 7
_CLIPPED_PX = 0.5
_TURNS = (-2, -1, 0, 1, 2)

Geometries = NDArray[Any]
Points = NDArray[np.float64]
"""(n, 2): x and y, or column and row."""


@dataclass(frozen=True, slots=True)
class Cutline:
    """Valid polygons by their CRS, and the number of geometries of each other type."""

    polygons: Sequence[tuple[str, Geometries]]
    others: Mapping[str, int]


def read_cutline(file: Path, *, folder: Path) -> Cutline:
    """The polygons of all layers of a vector file; `folder` is for temporary files.

    Raises:
        InvalidInput: it isn't a readable vector file (codes as for metadata), has no polygon (`invalid-cutline`), too many
            features (`cutline-too-large`), or no coordinate system (`not-georeferenced`).
    """
    with open_source(file, suffix_of(file.name), folder=folder) as source, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of GDAL, about rings that are closed here
        try:
            layers, _ = source.layers()
            check_layers(
                shown(file.name),
                [(each.info["geometry_type"], each.crs, int(each.info["features"])) for each in layers],
                next((each.warning for each in layers if each.warning), None),
            )
            others: Counter[str] = Counter()
            polygons = [
                (str(layer.crs), _polygons(_geometries(source, layer), others))
                for layer in layers
                if layer.info["geometry_type"] and layer.crs
            ]
        except (DataSourceError, DataLayerError, Unreadable, UnicodeError) as error:
            raise unreadable(file, why_unreadable(error, file, suffix_of(file.name))) from error
    found = [(crs, each) for crs, each in polygons if len(each)]
    if not found:
        raise no_polygon(shown(file.name), others)
    return Cutline(found, dict(others))


def cutline_of(given: CutlinePolygons) -> Cutline:
    """The polygons that were given as GeoJSON."""
    others = Counter(given.others)
    built = [shapely.Polygon(rings[0], rings[1:]) for rings in given.polygons]
    polygons = _polygons(np.array(built, object), others)
    if not len(polygons):
        raise invalid_cutline("its polygons have no area")
    return Cutline([(WGS84, polygons)], dict(others))


def locate_cutline(cutline: Cutline, profile: RasterProfile) -> ExportArea:
    """The window around the polygons, with the mask of the pixels whose centre is within one of them.

    Raises:
        InvalidInput: the raster has no georeference (`not-georeferenced`), the polygons lie outside of it
            (`outside-raster`), or can't be transformed to its CRS (`invalid-cutline`).
    """
    require_georeference(profile)
    crs = cutline.polygons[0][0]
    whole = _united(np.concatenate([_in_pixels(each, crs, profile) for crs, each in cutline.polygons]))
    raster = shapely.box(0, 0, profile.width, profile.height)
    copies = [each for each in _turned(whole, crs, profile) if shapely.intersects(each, raster)]
    visible = shapely.intersection(_united(np.array(copies, object)), raster) if copies else None
    if visible is None or not visible.area:
        raise outside_raster("The cutline", profile, crs)
    west, north, east, south = visible.bounds
    rows, cols = snapped(north, south), snapped(west, east)
    window = (
        slice(min(rows[0], profile.height - 1), min(rows[1], profile.height)),
        slice(min(cols[0], profile.width - 1), min(cols[1], profile.width)),
    )
    return ExportArea(
        window,
        is_clipped=whole.area - visible.area > _CLIPPED_PX,
        inside=PolygonMask(_united(np.array(copies, object))),
    )


def _geometries(source: VectorSource, layer: LayerInfo) -> Geometries:
    _, _, geometries, _ = pyogrio.raw.read(
        source.address, layer=layer.gdal_name, columns=[], max_features=MAX_FEATURES, **source.options
    )
    read: Geometries = shapely.force_2d(shapely.from_wkb(geometries, on_invalid="fix"))
    return read


def _polygons(geometries: Geometries, others: Counter[str]) -> Geometries:
    """The valid polygons among geometries and their parts; those of other types are counted."""
    flat = geometries[~(shapely.is_missing(geometries) | shapely.is_empty(geometries))]
    if not np.isfinite(shapely.bounds(flat)).all():
        raise invalid_cutline("it has coordinates that aren't finite")
    flat = _flat(flat)
    is_polygon = shapely.get_type_id(flat) == _POLYGON
    others.update(str(geometry.geom_type) for geometry in flat[~is_polygon])
    return _made_valid(flat[is_polygon])


def _flat(geometries: Geometries) -> Geometries:
    """The parts of multipolygons and collections instead of these."""
    flat = geometries
    while (nested := np.isin(shapely.get_type_id(flat), (_MULTIPOLYGON, _COLLECTION))).any():
        flat = np.concatenate([flat[~nested], shapely.get_parts(flat[nested])])
    return flat


def _made_valid(polygons: Geometries) -> Geometries:
    """The polygons, of which those whose rings cross are split; what has no area is left out."""
    is_valid = shapely.is_valid(polygons)
    if is_valid.all():
        return polygons
    repaired = _flat(shapely.make_valid(polygons[~is_valid], method="structure", keep_collapsed=False))
    repaired = repaired[(shapely.get_type_id(repaired) == _POLYGON) & ~shapely.is_empty(repaired)]
    return np.concatenate([polygons[is_valid], repaired])


def _in_pixels(polygons: Geometries, crs: str, profile: RasterProfile) -> Geometries:
    transformer, _ = transformer_to(profile, crs)
    a, b, c, d, e, f = to_pixel(profile)

    def project(points: Points) -> Points:
        x, y = points.T if transformer is None else transformer.transform(points[:, 0], points[:, 1])
        with np.errstate(invalid="ignore"):
            return np.column_stack([a * x + b * y + c, d * x + e * y + f])

    rings, polygon_of = shapely.get_rings(polygons, return_index=True)
    points, ring_of = shapely.get_coordinates(rings, return_index=True)
    if transformer is not None:
        points, ring_of = _densified(points, ring_of, project)
    pixels = project(points)
    if not np.isfinite(pixels).all():
        raise invalid_cutline("it reaches to places that the raster's coordinate system doesn't have")
    return _made_valid(shapely.polygons(shapely.linearrings(pixels, indices=ring_of), indices=polygon_of))


def _densified(
    points: Points, ring_of: NDArray[np.intp], project: Callable[[Points], Points]
) -> tuple[Points, NDArray[np.intp]]:
    """The points of rings with further ones on edges that bend: each is halved where its middle deviates."""
    for _ in range(_MAX_HALVINGS):
        middles = (points[:-1] + points[1:]) / 2
        pixels = project(points)
        with np.errstate(invalid="ignore"):
            bends = np.hypot(*(project(middles) - (pixels[:-1] + pixels[1:]) / 2).T)
        (at,) = np.nonzero((bends > MAX_BEND_PX) & (ring_of[:-1] == ring_of[1:]))
        if not len(at) or len(points) + len(at) > MAX_POINTS:
            break
        points = np.insert(points, at + 1, middles[at], axis=0)
        ring_of = np.insert(ring_of, at + 1, ring_of[at])
    return points, ring_of


def _turned(whole: Any, crs: str, profile: RasterProfile) -> list[Any]:
    """The polygons; for a raster in degrees, also by whole turns around the Earth to either side."""
    _, turn = transformer_to(profile, crs)
    if turn is None:
        return [whole]
    a, _, _, d, _, _ = to_pixel(profile)
    return [translate(whole, a * turn * number, d * turn * number) for number in _TURNS]


def _united(polygons: Geometries) -> Any:
    """One geometry of polygons that don't overlap."""
    return polygons[0] if len(polygons) == 1 else shapely.union_all(polygons)
