"""The cube that an octree divides, and the order (Morton's) in which a walk through the octree meets the points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

BITS = 20
"""Of each axis in a code: cells of a millionth of the cube's side."""
CODE_BITS = 3 * BITS
ALL_CODES = 1 << CODE_BITS
"""Codes are smaller than this."""

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
    """A node of the octree: its level and its place among the cells of that level."""

    level: int
    x: int
    y: int
    z: int


@dataclass(frozen=True, slots=True)
class Bounds:
    """The smallest and the largest X, Y and Z of a cloud, as stored."""

    least: tuple[int, ...]
    most: tuple[int, ...]

    def joined(self, other: Bounds) -> Bounds:
        """What holds both."""
        return Bounds(
            tuple(map(min, self.least, other.least)),
            tuple(map(max, self.most, other.most)),
        )


@dataclass(frozen=True, slots=True)
class Cube:
    """The cube from `least` (as stored) with edges of `side`; coordinates are stored numbers · scale + offset."""

    least: tuple[int, ...]
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    side: float

    @property
    def corner(self) -> tuple[float, ...]:
        """The least coordinates."""
        axes = zip(self.least, self.scales, self.offsets, strict=True)
        return tuple(stored * scale + offset for stored, scale, offset in axes)

    def codes(self, records: Records) -> Codes:
        """The Morton code of each point: the bits of x, y and z in turn, z's the highest."""
        code = np.zeros(len(records), np.uint64)
        for axis, name in enumerate("XYZ"):
            code |= _spread(self._cells(records[name], axis)) << np.uint64(axis)
        return code

    def _cells(self, stored: NDArray[np.int32], axis: int) -> Codes:
        # In the very arithmetic of a reader that asks whether a point is in its node, so that a point on an edge is on
        # the side where the rounding of its coordinate puts it: edges are at corner + number · step at every level.
        places = stored * self.scales[axis] + self.offsets[axis]
        corner, step = self.corner[axis], self.side / (1 << BITS)
        cells = np.floor((places - corner) / step)
        cells -= places < corner + cells * step
        cells += places >= corner + (cells + 1) * step
        inside: Codes = np.clip(cells, 0, (1 << BITS) - 1).astype(np.uint64)
        return inside


def bounds_of(records: Records) -> Bounds:
    """The bounds of some points, of which there must be one at least."""
    least, most = (tuple(int(way(records[name])) for name in "XYZ") for way in (np.min, np.max))
    return Bounds(least, most)


def cube_around(bounds: Bounds, scales: tuple[float, ...], offsets: tuple[float, ...]) -> Cube:
    """The cube of a cloud: from its least corner, as long as its longest side (some readers insist on both)."""
    extents = [
        (high - low) * scale for low, high, scale in zip(bounds.least, bounds.most, scales, strict=True)
    ]
    return Cube(bounds.least, scales, offsets, max(extents) or max(scales))


def key_of(level: int, code: int) -> NodeKey:
    """The node at `level` whose points' codes begin with `code`."""
    x, y, z = (sum((code >> 3 * bit + axis & 1) << bit for bit in range(level)) for axis in range(3))
    return NodeKey(level, x, y, z)


def _spread(cells: Codes) -> Codes:
    for shift, mask in _SPREADING:
        cells = (cells | cells << np.uint64(shift)) & np.uint64(mask)
    return cells
