"""Thumbnails of GeoJSON (RFC 7946): points, lines and polygons, read without GDAL."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from aerotask.domain.errors import InvalidInput

MAX_BYTES = 32 * 1024 * 1024
"""The parsed values need about twenty times as much memory."""
LINE = (0x1F, 0x5F, 0xA8, 255)
AREA = (0x1F, 0x5F, 0xA8, 70)
POINT_PX = 2
MARGIN_PX = 2

Positions = NDArray[np.float64]
"""(n, 2)"""

# Nesting depth of the positions in each geometry type.
_DEPTHS = {
    "Point": 0,
    "MultiPoint": 1,
    "LineString": 1,
    "MultiLineString": 2,
    "Polygon": 2,
    "MultiPolygon": 3,
}
_PARSE_ERRORS = (
    orjson.JSONDecodeError,
    KeyError,
    TypeError,
    ValueError,
    IndexError,
    OverflowError,
    AttributeError,
)


def draw_geojson(path: Path, *, size_px: int) -> Image.Image:
    """Features on a transparent background, north up, the longer side `size_px`.

    Raises:
        InvalidInput: the file is not GeoJSON (`unreadable-vector`), has no positions (`empty-vector`), or is too
            large (`vector-too-large`).
    """
    if path.stat().st_size > MAX_BYTES:
        raise InvalidInput(
            f"The GeoJSON is larger than the limit of {MAX_BYTES // 1024**2} MiB for thumbnails.",
            code="vector-too-large",
        )
    try:
        parts = list(_parts(_documents(path.read_bytes())))
    except _PARSE_ERRORS as error:
        raise InvalidInput("The file is not valid GeoJSON (RFC 7946).", code="unreadable-vector") from error
    if not parts:
        raise InvalidInput("The GeoJSON has no positions to draw.", code="empty-vector")
    return _draw(parts, size_px=size_px)


def _documents(content: bytes) -> list[Mapping[str, Any]]:
    """The document, or each of a sequence (RFC 8142, or one a line)."""
    content = content.removeprefix(b"\xef\xbb\xbf")
    try:
        return [orjson.loads(content)]
    except orjson.JSONDecodeError:
        separator = b"\x1e" if content.lstrip().startswith(b"\x1e") else b"\n"
        texts = [text for text in content.split(separator) if text.strip()]
        if not texts:
            raise
        return [orjson.loads(text) for text in texts]


def _parts(documents: list[Mapping[str, Any]]) -> Iterator[tuple[str, Positions]]:
    """Geometry type and positions of each part; collections are traversed without recursion."""
    pending = documents[::-1]
    while pending:
        item = pending.pop()
        match item["type"]:
            case "FeatureCollection":
                pending.extend(item["features"])
            case "Feature":
                pending.extend([item["geometry"]] if item["geometry"] else [])
            case "GeometryCollection":
                pending.extend(item["geometries"])
            case kind:
                for line in _lines(item["coordinates"], _DEPTHS[kind]):
                    yield kind, line


def _lines(coordinates: Any, depth: int) -> Iterator[Positions]:
    """Lists of positions in coordinates that are nested `depth` deep."""
    if depth == 3:
        lines = [line for polygon in coordinates for line in polygon]
    else:
        lines = {0: [[coordinates]], 1: [coordinates], 2: coordinates}[depth]
    for line in lines:
        positions = np.array([position[:2] for position in line], np.float64).reshape(-1, 2)
        if not np.isfinite(positions).all():
            raise ValueError("a position is not finite")
        if len(positions):
            yield positions


def _draw(parts: list[tuple[str, Positions]], *, size_px: int) -> Image.Image:
    all_positions = np.concatenate([positions for _, positions in parts])
    low, high = all_positions.min(axis=0), all_positions.max(axis=0)
    mid_latitude = float(low[1] + high[1]) / 2
    # Degrees of longitude are narrower than those of latitude.
    stretch = np.array([math.cos(math.radians(mid_latitude)) if abs(mid_latitude) < 89 else 1.0, 1.0])
    extent = (high - low) * stretch
    available_px = size_px - 2 * MARGIN_PX
    scale = available_px / max(float(extent.max()), 1e-12)
    cols, rows = (int(side) for side in np.ceil(extent * scale) + 2 * MARGIN_PX)
    image = Image.new("RGBA", (max(cols, 1), max(rows, 1)))
    areas = Image.new("RGBA", image.size)
    lines, fill = ImageDraw.Draw(image), ImageDraw.Draw(areas)
    for kind, positions in parts:
        x = (positions[:, 0] - low[0]) * stretch[0] * scale + MARGIN_PX
        y = (high[1] - positions[:, 1]) * scale + MARGIN_PX
        pixels = list(zip(x.tolist(), y.tolist(), strict=True))
        if kind.endswith("Point"):
            for px, py in pixels:
                lines.ellipse((px - POINT_PX, py - POINT_PX, px + POINT_PX, py + POINT_PX), fill=LINE)
            continue
        if kind.endswith("Polygon") and len(pixels) > 2:
            fill.polygon(pixels, fill=AREA)
        lines.line(pixels, fill=LINE)
    return Image.alpha_composite(areas, image)
