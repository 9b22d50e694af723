"""Area of an export: the window of the raster's grid that a bounding box or a cutline asks for, found without pixels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError, ProjError

from aerotask.domain.errors import InvalidInput
from aerotask.domain.paths import shown
from aerotask.raster.profile import RasterProfile
from aerotask.raster.windows import Window, shape_of

if TYPE_CHECKING:
    from aerotask.raster.export.polygon_mask import PolygonMask

WGS84 = "EPSG:4326"
ON_EDGE_PX = 1e-3
"""Edges of an area that are so near to an edge of pixels are taken for that edge: transformations have rounding errors."""
_EDGE_POINTS = 21
_ROUNDING = 1e-6
_TURNS = (-2, -1, 0, 1, 2)

Bounds = tuple[float, float, float, float]
"""Smallest x and y, largest x and y; x is the longitude or easting whatever the CRS's own order of axes."""
Ring = tuple[tuple[float, float], ...]
Rings = tuple[Ring, ...]
"""Outline and holes of a polygon; each ring is closed."""


@dataclass(frozen=True, slots=True)
class Box:
    """Rectangle in a CRS; in degrees, a west above its east crosses the antimeridian."""

    bounds: Bounds
    crs: str


@dataclass(frozen=True, slots=True)
class CutlineEntry:
    """Cutline: the polygons of a vector entry."""

    path: str


@dataclass(frozen=True, slots=True)
class CutlinePolygons:
    """Cutline: polygons given as GeoJSON, in longitudes and latitudes."""

    polygons: tuple[Rings, ...]
    others: Mapping[str, int]
    """The number of geometries of each other type, which are left out."""


AreaOptions = Box | CutlineEntry | CutlinePolygons


@dataclass(frozen=True, slots=True)
class ExportArea:
    """Window of the source's grid that is exported, and the polygons within it, if only these are."""

    window: Window
    is_clipped: bool
    """Whether the area reaches beyond the raster."""
    inside: PolygonMask | None = None


def parse_box(bounds: Bounds, crs: str) -> Box:
    """The bounding box, checked without a raster.

    Raises:
        InvalidInput: the CRS is unknown, or the numbers can't be bounds in it (`invalid-bbox`).
    """
    try:
        parsed = CRS.from_user_input(crs)
    except CRSError as error:
        raise _invalid_box(f"there is no coordinate system {shown(crs)}") from error
    west, south, east, north = bounds
    if not (parsed.is_geographic or parsed.is_projected):
        raise _invalid_box(f"{crs} has no map coordinates")
    if south >= north:
        raise _invalid_box("the smallest y must be below the largest")
    if not parsed.is_geographic:
        if west >= east:
            raise _invalid_box("the smallest x must be below the largest")
        return Box(bounds, crs)
    turn = _turn(parsed)
    if max(-south, north) > turn / 4 or max(abs(west), abs(east)) > turn:
        raise _invalid_box(
            f"its numbers can't be longitudes and latitudes; name their coordinate system in 'bboxCrs', which is {crs}"
        )
    if west == east or east - west > turn:
        raise _invalid_box("its west and east must differ, by 360 degrees at most")
    return Box(bounds, crs)


def locate_box(box: Box, profile: RasterProfile) -> ExportArea:
    """The window of the pixels that a bounding box covers, wholly or in part.

    Raises:
        InvalidInput: the raster has no georeference (`not-georeferenced`), the box lies outside of it
            (`outside-raster`), or covers two separate parts of it (`invalid-bbox`).
    """
    windows, is_clipped = _windows_of(box, profile)
    if not windows:
        raise outside_raster("The bounding box", profile, box.crs)
    if len(windows) > 1:
        parts = " and ".join(f"columns {cols.start} to {cols.stop}" for _, cols in windows)
        raise _invalid_box(
            f"it covers two separate parts of the raster ({parts}); export one after the other"
        )
    return ExportArea(windows[0], is_clipped)


def locate_extent(boxes: Sequence[Box], profile: RasterProfile) -> ExportArea:
    """The window around all boxes, which are the extents of a cutline's polygons.

    Raises:
        InvalidInput: as `locate_box`, but the boxes may cover separate parts.
    """
    found = [_windows_of(box, profile) for box in boxes]
    windows = [window for each, _ in found for window in each]
    if not windows:
        raise outside_raster("The cutline", profile, boxes[0].crs)
    return ExportArea(_hull(windows), is_clipped=any(is_clipped for _, is_clipped in found))


def transformer_to(profile: RasterProfile, crs: str) -> tuple[Transformer | None, float | None]:
    """The transformation from a CRS to that of the raster (None if they are the same), and the raster's full turn.

    The latter is the width of the Earth in the units of the raster's x, or None if its CRS isn't geographic.

    Raises:
        InvalidInput: the raster has no georeference, or one of the systems has no known relation to the other
            (`not-georeferenced`).
    """
    require_georeference(profile)
    try:
        source, target = CRS.from_user_input(crs), CRS.from_user_input(profile.crs)
        turn = _turn(target) if target.is_geographic else None
        return (None if source == target else Transformer.from_crs(source, target, always_xy=True)), turn
    except (CRSError, ProjError) as error:
        raise InvalidInput(
            f"The raster's coordinate system has no known relation to that of the area ({shown(crs[:60])}), so it can't "
            "be cut to it.",
            code="not-georeferenced",
        ) from error


def require_georeference(profile: RasterProfile) -> None:
    """Raise if a raster can't be cut to an area on the Earth.

    Raises:
        InvalidInput: it has no CRS, or no geotransform with an area (`not-georeferenced`).
    """
    if profile.crs is None or profile.geotransform is None or not _determinant(profile):
        lacking = "coordinate system" if profile.crs is None else "geotransform"
        raise InvalidInput(
            f"The raster has no {lacking}, so its place on the Earth is unknown and it can't be cut to an area; leave "
            "out 'bbox' and 'cutline', or georeference it.",
            code="not-georeferenced",
        )


def to_pixel(profile: RasterProfile) -> tuple[float, float, float, float, float, float]:
    """The affine transform from coordinates to pixels: column = a·x + b·y + c, row = d·x + e·y + f."""
    x0, a, b, y0, d, e = profile.geotransform or (0, 1, 0, 0, 0, 1)
    det = _determinant(profile)
    return (e / det, -b / det, (b * y0 - e * x0) / det, -d / det, a / det, (d * x0 - a * y0) / det)


def snapped(low: float, high: float) -> tuple[int, int]:
    """The first pixel that an interval covers, and the one after the last; at least one."""
    first = math.floor(low + ON_EDGE_PX)
    return first, max(math.ceil(high - ON_EDGE_PX), first + 1)


def outside_raster(what: str, profile: RasterProfile, crs: str) -> InvalidInput:
    """The error for an area without a pixel of the raster; it says what the raster covers in the area's CRS."""
    west, south, east, north = _covered(profile, crs)
    return InvalidInput(
        f"{what} lies outside of the raster, which covers x from {west:.10g} to {east:.10g} and y from {south:.10g} to "
        f"{north:.10g} in {shown(crs[:60])}.",
        code="outside-raster",
    )


def _windows_of(box: Box, profile: RasterProfile) -> tuple[list[Window], bool]:
    """The separate parts of the raster that a box covers, and whether it reaches beyond the raster."""
    transformer, turn = transformer_to(profile, box.crs)
    shifts = [number * turn for number in _TURNS] if turn else [0.0]
    found: list[Window] = []
    parts = list(_parts_near(box, profile))
    is_clipped = sum(map(_size, parts)) < _size(_unwrapped(box)) * (1 - _ROUNDING)
    for part in parts:
        west, south, east, north = (
            part if transformer is None else transformer.transform_bounds(*part, densify_pts=_EDGE_POINTS)
        )
        if not all(map(math.isfinite, (west, south, east, north))):
            continue
        if turn and east < west:
            east += turn
        pieces = [_pixels((west + by, south, east + by, north), profile) for by in shifts]
        kept = [window for window in (_within(piece, profile) for piece in pieces) if window]
        is_clipped |= sum(map(_px, kept)) < _px(pieces[0])
        found += kept
    return _merged(found), is_clipped


def _parts_near(box: Box, profile: RasterProfile) -> Iterator[Bounds]:
    """The box within the raster's bounds in its CRS, so that what is transformed is near the raster.

    There may be two parts where longitudes are by a whole turn larger or smaller.
    """
    west, south, east, north = _unwrapped(box)
    covered = _covered(profile, box.crs)
    if not all(map(math.isfinite, covered)):
        yield west, south, east, north
        return
    crs = CRS.from_user_input(box.crs)
    shifts = [number * _turn(crs) for number in _TURNS] if crs.is_geographic else [0.0]
    for by in shifts:
        part = (
            max(west + by, covered[0]),
            max(south, covered[1]),
            min(east + by, covered[2]),
            min(north, covered[3]),
        )
        if part[0] < part[2] and part[1] < part[3]:
            yield part


def _unwrapped(box: Box) -> Bounds:
    """The box with its east above its west."""
    west, south, east, north = box.bounds
    return west, south, east if west <= east else east + _turn(CRS.from_user_input(box.crs)), north


def _size(bounds: Bounds) -> float:
    return (bounds[2] - bounds[0]) * (bounds[3] - bounds[1])


def _pixels(bounds: Bounds, profile: RasterProfile) -> Window:
    """The pixels that a rectangle in the raster's CRS covers, also beyond the raster."""
    a, b, c, d, e, f = to_pixel(profile)
    corners = [(x, y) for x in (bounds[0], bounds[2]) for y in (bounds[1], bounds[3])]
    cols = [a * x + b * y + c for x, y in corners]
    rows = [d * x + e * y + f for x, y in corners]
    return slice(*snapped(min(rows), max(rows))), slice(*snapped(min(cols), max(cols)))


def _within(window: Window, profile: RasterProfile) -> Window | None:
    rows, cols = (
        slice(max(part.start, 0), min(part.stop, size))
        for part, size in zip(window, (profile.height, profile.width), strict=True)
    )
    return (rows, cols) if rows.start < rows.stop and cols.start < cols.stop else None


def _merged(windows: Sequence[Window]) -> list[Window]:
    """The windows, of which those that touch are joined."""
    merged: list[Window] = []
    for window in windows:
        apart: list[Window] = []
        joined = window
        for other in merged:
            if all(a.start <= b.stop and b.start <= a.stop for a, b in zip(joined, other, strict=True)):
                joined = _hull([joined, other])
            else:
                apart.append(other)
        merged = [*apart, joined]
    return sorted(merged, key=lambda window: window[1].start)


def _hull(windows: Sequence[Window]) -> Window:
    rows, cols = zip(*windows, strict=True)
    return (
        slice(min(part.start for part in rows), max(part.stop for part in rows)),
        slice(min(part.start for part in cols), max(part.stop for part in cols)),
    )


def _px(window: Window) -> int:
    rows, cols = shape_of(window)
    return rows * cols


def _covered(profile: RasterProfile, crs: str) -> Bounds:
    """The raster's bounds in a CRS."""
    x0, a, b, y0, d, e = profile.geotransform or (0, 1, 0, 0, 0, 1)
    corners = [(col, row) for col in (0, profile.width) for row in (0, profile.height)]
    xs = [x0 + a * col + b * row for col, row in corners]
    ys = [y0 + d * col + e * row for col, row in corners]
    bounds = (min(xs), min(ys), max(xs), max(ys))
    transformer, turn = transformer_to(replace(profile, crs=crs), str(profile.crs))
    if transformer is None:
        return bounds
    west, south, east, north = transformer.transform_bounds(*bounds, densify_pts=_EDGE_POINTS)
    return west, south, east + turn if turn and east < west else east, north


def _turn(crs: CRS) -> float:
    """A full turn around the Earth in the units of a geographic CRS."""
    return 2 * math.pi / float(crs.axis_info[0].unit_conversion_factor)


def _determinant(profile: RasterProfile) -> float:
    _, a, b, _, d, e = profile.geotransform or (0, 1, 0, 0, 0, 1)
    return a * e - b * d


def _invalid_box(rule: str) -> InvalidInput:
    return InvalidInput(
        f"The bbox can't be used: {rule}. It is [smallest x, smallest y, largest x, largest y]; in degrees, x is the "
        "longitude.",
        code="invalid-bbox",
    )
