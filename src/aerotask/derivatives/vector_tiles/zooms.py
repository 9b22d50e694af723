"""Zoom of vector tiles: as detailed as the extent of the features asks for, as far as the work for it is bounded."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from aerotask.derivatives.vector_tiles.antimeridian import MAX_LATITUDE_DEG

MAX_ZOOM = 16
"""At this zoom a step of a tile's 4096-step grid is 15 cm."""
MIN_MAX_ZOOM = 5
TILES_ACROSS = 128
"""Approximate number of tiles across the whole extent at the most detailed zoom."""
BASE_WORK = 2_000_000.0
"""Features in tiles that any build may cut, about two minutes of the processor."""
WORK_PER_BYTE = 0.16
"""Further ones for each byte of the source, about 10 s for a MB, as a build's time limit grows too."""
_VERTICES_PER_TILE = 600
"""Vertices of a feature that take as long to clip as a tile takes for itself."""
_WORLD_DEG = 360.0

Boxes = NDArray[np.float64]


def max_zoom(extent_deg: float) -> int:
    """Most detailed zoom for features with that extent."""
    if extent_deg <= 0:
        return MAX_ZOOM
    zoom = math.ceil(math.log2(_WORLD_DEG / extent_deg * TILES_ACROSS))
    return min(max(zoom, MIN_MAX_ZOOM), MAX_ZOOM)


def work_limit(source_bytes: int) -> float:
    """Features in tiles that a build from a source of that size may cut."""
    return BASE_WORK + WORK_PER_BYTE * source_bytes


def tiles_of(boxes: Boxes, zoom: int) -> NDArray[np.float64]:
    """Number of tiles at that zoom that boxes in degrees within the map touch."""
    across = 2.0**zoom
    columns = np.floor((boxes[:, [0, 2]] + 180) / _WORLD_DEG * across)
    latitudes = np.radians(np.clip(boxes[:, [1, 3]], -MAX_LATITUDE_DEG, MAX_LATITUDE_DEG))
    rows = np.floor((1 - np.arcsinh(np.tan(latitudes)) / np.pi) / 2 * across)
    tiles: NDArray[np.float64] = (columns[:, 1] - columns[:, 0] + 1) * (rows[:, 0] - rows[:, 1] + 1)
    return tiles


@dataclass(slots=True)
class TileExtent:
    """Extent of geometries, none of which crosses ±180°, and the work for their tiles."""

    work: NDArray[np.float64] = field(default_factory=lambda: np.zeros(MAX_ZOOM + 1))
    """Features in tiles at each zoom; one with many vertices counts as several."""
    _box: Boxes = field(default_factory=lambda: np.array([np.inf, np.inf, -np.inf, -np.inf]))
    _across: NDArray[np.float64] = field(default_factory=lambda: np.array([np.inf, -np.inf]))
    """Smallest and largest longitude from 0° to 360°, for features on both sides of ±180°."""

    def add(self, boxes: Boxes, vertices: NDArray[np.int64]) -> None:
        """Count geometries in, by their bounds in degrees."""
        if not len(boxes):
            return
        weight = np.maximum(1, vertices / _VERTICES_PER_TILE)
        self.work += [float((tiles_of(boxes, zoom) * weight).sum()) for zoom in range(MAX_ZOOM + 1)]
        self._box[:2] = np.minimum(self._box[:2], boxes[:, :2].min(axis=0))
        self._box[2:] = np.maximum(self._box[2:], boxes[:, 2:].max(axis=0))
        turned = np.where(boxes[:, 2] <= 0, _WORLD_DEG, 0.0)
        self._across[0] = min(self._across[0], float((boxes[:, 0] + turned).min()))
        self._across[1] = max(self._across[1], float((boxes[:, 2] + turned).max()))

    def merge(self, other: TileExtent) -> None:
        """Count in what another extent has."""
        self.work += other.work
        self._box[:2] = np.minimum(self._box[:2], other._box[:2])
        self._box[2:] = np.maximum(self._box[2:], other._box[2:])
        self._across[0] = min(self._across[0], other._across[0])
        self._across[1] = max(self._across[1], other._across[1])

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """West, south, east, north in degrees; from −180 to 180 around features on both sides of ±180°."""
        west, south, east, north = map(float, self._box)
        return west, south, east, north

    @property
    def size_deg(self) -> float:
        """The longer side, the shorter way around the Earth."""
        west, east = self._sides()
        return max(east - west, float(self._box[3] - self._box[1]))

    @property
    def centre(self) -> tuple[float, float]:
        """Longitude and latitude."""
        west, east = self._sides()
        longitude = (west + east) / 2
        return (longitude - _WORLD_DEG if longitude > 180 else longitude), float(self._box[1::2].mean())

    @property
    def centre_zoom(self) -> int:
        """Zoom at which a single tile is as large as the extent."""
        if self.size_deg <= 0:
            return MAX_ZOOM
        return min(max(math.floor(math.log2(_WORLD_DEG / self.size_deg)), 0), MAX_ZOOM)

    def zoom_within(self, limit: float) -> int | None:
        """The most detailed zoom down to which all tiles take no more work than that; None if zoom 0 does."""
        within = np.flatnonzero(np.cumsum(self.work) <= limit)
        return int(within[-1]) if len(within) else None

    def _sides(self) -> tuple[float, float]:
        west, _, east, _ = self.bounds
        if self._across[1] - self._across[0] < east - west:
            return float(self._across[0]), float(self._across[1])
        return west, east
