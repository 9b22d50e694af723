"""Cutline given as GeoJSON (RFC 7946): its polygons, checked without a geometry library."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Annotated, Any

from pydantic import WithJsonSchema

from aerotask.domain.errors import InvalidInput
from aerotask.domain.paths import shown
from aerotask.raster.export.area import WGS84, Box, CutlinePolygons, Ring, Rings

MAX_POSITIONS = 10_000
"""Positions of all polygons together; larger cutlines are uploaded as an entry."""
_MAX_BOXES = 64
_FAR = 1e18
_WITHOUT_AREA = frozenset({"Point", "MultiPoint", "LineString", "MultiLineString"})

GeoJson = Annotated[
    dict[str, Any],
    WithJsonSchema(
        {
            "type": "object",
            "title": "GeoJSON",
            "description": "Polygons in longitudes and latitudes (RFC 7946).",
            "properties": {
                "type": {
                    "enum": ["Polygon", "MultiPolygon", "GeometryCollection", "Feature", "FeatureCollection"]
                }
            },
            "required": ["type"],
        }
    ),
]
"""A GeoJSON object in parameters."""


def parse_geojson(value: Mapping[str, Any]) -> CutlinePolygons:
    """The polygons of a GeoJSON object; an unclosed ring is closed.

    Raises:
        InvalidInput: it is malformed, has no polygon, or too many positions (`invalid-cutline`).
    """
    polygons: list[Rings] = []
    others: Counter[str] = Counter()
    positions = 0
    _check_crs(value)
    for geometry in _geometries(value):
        kind = geometry["type"]
        if kind not in {"Polygon", "MultiPolygon"}:
            if kind not in _WITHOUT_AREA:
                raise invalid_cutline(f"it has a part of the unknown type {shown(kind[:40])}")
            others[kind] += 1
            continue
        coordinates = geometry.get("coordinates")
        for rings in [coordinates] if kind == "Polygon" else _listed(coordinates):
            found = tuple(map(_ring, _listed(rings)))
            positions += sum(map(len, found))
            if positions > MAX_POSITIONS:
                raise invalid_cutline(
                    f"it has more than {MAX_POSITIONS:,} positions; upload it as a file and name that"
                )
            if found:
                polygons.append(found)
    if not polygons:
        raise no_polygon("it", others)
    return CutlinePolygons(tuple(polygons), dict(others))


def boxes_of(cutline: CutlinePolygons) -> list[Box]:
    """Boxes around the polygons: one around each of a few, else one around all."""
    outlines = [rings[0] for rings in cutline.polygons]
    if len(outlines) > _MAX_BOXES:
        outlines = [tuple(position for outline in outlines for position in outline)]
    boxes = []
    for outline in outlines:
        xs, ys = zip(*outline, strict=True)
        boxes.append(Box((min(xs), min(ys), max(xs), max(ys)), WGS84))
    return boxes


def no_polygon(what: str, others: Mapping[str, int]) -> InvalidInput:
    """The error for a cutline without a polygon, which names what there is instead."""
    holds = ", ".join(f"{count:,} {kind}" for kind, count in others.items()) or "no geometry at all"
    return invalid_cutline(f"{what} has no polygon, but {holds}")


def left_out_warning(others: Mapping[str, int]) -> str:
    """The warning that a cutline has geometries that aren't polygons."""
    holds = ", ".join(f"{count:,} {kind}" for kind, count in others.items())
    return f"Of the cutline, only the polygons were used; left out: {holds}."


def invalid_cutline(why: str) -> InvalidInput:
    """The error for a cutline that can't be used."""
    return InvalidInput(
        f"The cutline can't be used: {why}. Name an entry with polygons, or give a GeoJSON Polygon, MultiPolygon, Feature "
        "or FeatureCollection in longitudes and latitudes.",
        code="invalid-cutline",
    )


def _geometries(value: Any) -> Iterator[Mapping[str, Any]]:
    """The single geometries of a GeoJSON object."""
    kind = value.get("type") if isinstance(value, Mapping) else None
    if not isinstance(kind, str):
        raise invalid_cutline("a part of it is no GeoJSON object with a 'type'")
    if kind == "FeatureCollection":
        for feature in _listed(value.get("features")):
            yield from _geometries(feature)
    elif kind == "GeometryCollection":
        for part in _listed(value.get("geometries")):
            yield from _geometries(part)
    elif kind == "Feature":
        if value.get("geometry") is not None:
            yield from _geometries(value["geometry"])
    else:
        yield value


def _listed(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise invalid_cutline("a list of coordinates, geometries or features is missing")
    return value


def _ring(value: Any) -> Ring:
    ring = tuple(map(_position, _listed(value)))
    if any(abs(x) > 360 or abs(y) > 90 for x, y in ring):
        x, y = next((x, y) for x, y in ring if abs(x) > 360 or abs(y) > 90)
        raise invalid_cutline(f"its coordinates, such as {x:g}, {y:g}, are no longitudes and latitudes")
    if ring and ring[0] != ring[-1]:
        ring = (*ring, ring[0])
    if len(ring) < 4 or not any(here != before for before, here in pairwise(ring)):
        raise invalid_cutline("a ring has fewer than three corners")
    return ring


def _position(value: Any) -> tuple[float, float]:
    numbers = value if isinstance(value, list) else []
    if len(numbers) < 2 or not all(
        isinstance(number, int | float) and not isinstance(number, bool) and -_FAR < number < _FAR
        for number in numbers[:2]
    ):
        raise invalid_cutline("a position is not two numbers, longitude and latitude")
    return float(numbers[0]), float(numbers[1])


def _check_crs(value: Mapping[str, Any]) -> None:
    """Raise if the object names another coordinate system, as GeoJSON could before RFC 7946."""
    crs = value.get("crs")
    properties = crs.get("properties") if isinstance(crs, dict) else None
    name = str(properties.get("name", "")) if isinstance(properties, dict) else ""
    if name and not name.upper().endswith(("CRS84", "4326")):
        raise invalid_cutline(f"it names the coordinate system {shown(name[:60])}")
