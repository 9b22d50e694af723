"""Octree bounds: the cube that the octree divides, and Morton codes, whose order is that of the octree's nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

BITS = 20
"""Bits per axis in a code: a cell is a millionth of the cube's side."""
CODE_BITS = 3 * BITS
ALL_CODES = 1 << CODE_BITS
"""Exclusive upper bound of all codes."""

Codes: TypeAlias = NDArray[np.uint64]
Records: TypeAlias = NDArray[Any]
"""Points as LAS stores them: a structured array with X, Y and Z as scaled integers."""

# Each step moves the upper half of every group of bits away from the lower, until two zeros follow each bit.
_SPREADING = (
    (32, 0x001F00000000FFFF),
    (16, 0x001F0000FF0000FF),
    (8, 0x100F00F00F00F00F),
    (4, 0x10C30C30C30C30C3),
    (2, 0x1249249249249249),
)


class NodeKey(NamedTuple):
    """Octree node: its level and its cell on that level."""

    level: int
    x: int
    y: int
    z: int


@dataclass(frozen=True, slots=True)
class Bounds:
    """Minimum and maximum stored X, Y and Z of a cloud."""

    minimum: tuple[int, ...]
    maximum: tuple[int, ...]

    def merged(self, other: Bounds) -> Bounds:
        """Bounds of both."""
        return Bounds(
            tuple(map(min, self.minimum, other.minimum)),
            tuple(map(max, self.maximum, other.maximum)),
        )


@dataclass(frozen=True, slots=True)
class Cube:
    """Cube from `minimum` (as stored) with edges of `side`; coordinates are stored values · scale + offset."""

    minimum: tuple[int, ...]
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    side: float

    @property
    def corner(self) -> tuple[float, ...]:
        """Minimum coordinates."""
        axes = zip(self.minimum, self.scales, self.offsets, strict=True)
        return tuple(stored * scale + offset for stored, scale, offset in axes)

    def codes(self, records: Records) -> Codes:
        """Morton code of each point: the interleaved bits of x, y and z, z's the highest."""
        code = np.zeros(len(records), np.uint64)
        for axis, name in enumerate("XYZ"):
            code |= _spread(self._cells(records[name], axis)) << np.uint64(axis)
        return code

    def _cells(self, stored: NDArray[np.int32], axis: int) -> Codes:
        # Uses the same arithmetic as readers that check whether a point is in its node (edges at corner + n · step on
        # every level); otherwise rounding could put a point on an edge into the neighbouring node.
        coordinates = stored * self.scales[axis] + self.offsets[axis]
        corner, step = self.corner[axis], self.side / (1 << BITS)
        cells = np.floor((coordinates - corner) / step)
        cells -= coordinates < corner + cells * step
        cells += coordinates >= corner + (cells + 1) * step
        inside: Codes = np.clip(cells, 0, (1 << BITS) - 1).astype(np.uint64)
        return inside


def bounds_of(records: Records) -> Bounds:
    """Bounds of at least one point."""
    minimum, maximum = (tuple(int(way(records[name])) for name in "XYZ") for way in (np.min, np.max))
    return Bounds(minimum, maximum)


def cube_around(bounds: Bounds, scales: tuple[float, ...], offsets: tuple[float, ...]) -> Cube:
    """Cube of a cloud: from its minimum corner, with its longest side (some readers require both)."""
    extents = [
        (high - low) * scale for low, high, scale in zip(bounds.minimum, bounds.maximum, scales, strict=True)
    ]
    return Cube(bounds.minimum, scales, offsets, max(extents) or max(scales))


def key_of(level: int, code: int) -> NodeKey:
    """Node at `level` whose points' codes begin with `code`."""
    x, y, z = (sum((code >> 3 * bit + axis & 1) << bit for bit in range(level)) for axis in range(3))
    return NodeKey(level, x, y, z)


def _spread(cells: Codes) -> Codes:
    for shift, mask in _SPREADING:
        cells = (cells | cells << np.uint64(shift)) & np.uint64(mask)
    return cells
