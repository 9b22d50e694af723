"""Footprints and their overlap: plain polygons from the index, without PROJ."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

Point = tuple[float, float]
Polygon = Sequence[Point]
"""The corners of a convex polygon, in either direction, the first not repeated."""


def outline(geotransform: Sequence[float], width: int, height: int) -> Polygon:
    """The corners of a raster, by GDAL's geotransform."""
    x0, x_by_col, x_by_row, y0, y_by_col, y_by_row = geotransform
    corners = ((0, 0), (width, 0), (width, height), (0, height))
    return [
        (x0 + x_by_col * col + x_by_row * row, y0 + y_by_col * col + y_by_row * row) for col, row in corners
    ]


def overlap_share(one: Polygon, other: Polygon) -> float:
    """The area of the intersection, as a share of the smaller polygon's."""
    smaller = min(area(one), area(other))
    return min(area(intersection(one, other)) / smaller, 1.0) if smaller > 0 else 0.0


def area(polygon: Polygon) -> float:
    """The polygon's area, by the shoelace formula."""
    return abs(_signed_area(polygon))


def intersection(subject: Polygon, clip: Polygon) -> Polygon:
    """The intersection of two convex polygons (Sutherland and Hodgman 1974); empty if they don't overlap."""
    edges = list(clip) if _signed_area(clip) > 0 else list(clip)[::-1]
    remaining = list(subject)
    for start, end in pairwise([*edges, edges[0]]):
        remaining = _left_of(remaining, start, end)
        if not remaining:
            break
    return remaining


def _signed_area(polygon: Polygon) -> float:
    # Relative to the first corner: products of large map coordinates would lose precision by cancellation.
    x0, y0 = polygon[0] if polygon else (0.0, 0.0)
    moved = [(x - x0, y - y0) for x, y in polygon]
    return sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in pairwise([*moved, *moved[:1]])) / 2


def _left_of(polygon: Sequence[Point], start: Point, end: Point) -> list[Point]:
    clipped: list[Point] = []
    for one, other in pairwise([*polygon, polygon[0]]):
        side_one, side_other = _side(one, start, end), _side(other, start, end)
        if side_one >= 0:
            clipped.append(one)
        if (side_one > 0 > side_other) or (side_one < 0 < side_other):
            share = side_one / (side_one - side_other)
            clipped.append((one[0] + share * (other[0] - one[0]), one[1] + share * (other[1] - one[1])))
    return clipped


def _side(point: Point, start: Point, end: Point) -> float:
    """Positive to the left of the line from start to end."""
    return (end[0] - start[0]) * (point[1] - start[1]) - (end[1] - start[1]) * (point[0] - start[0])
