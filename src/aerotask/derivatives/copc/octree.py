"""Deals points to the nodes of an octree: a node takes one point of each of its 128³ voxels, its children the rest.

The points come in Morton order, so a node's points and a voxel's points lie side by side whatever the level, and a
level costs one pass over the points that are left. A cloud too large for memory comes in buckets that follow each
other in that order; what a bucket's edge cuts in two, the octree keeps until the second half has come.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from aerotask.derivatives.copc.bounds import ALL_CODES, BITS, CODE_BITS, Codes, NodeKey, Records, key_of

GRID_BITS = 7
GRID = 1 << GRID_BITS
"""Voxels along a node's edge."""
LEAF_POINTS = 100_000
"""A node with no more points than this has no children."""
DEEPEST = BITS - GRID_BITS
"""The level at which a voxel is the smallest cell that codes tell apart; its nodes take whatever is left."""

_SEED = 7
Positions = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Bucket:
    """Points in Morton order whose codes lie in `range(first, stop)`, and all of the cloud's that do."""

    records: Records
    codes: Codes
    first: int = 0
    stop: int = ALL_CODES


@dataclass(frozen=True, slots=True)
class Node:
    """A node with all of its own points."""

    key: NodeKey
    records: Records


@dataclass(slots=True)
class Octree:
    """Takes buckets in order and gives nodes; `leaf_points` bounds what a node without children holds."""

    leaf_points: int = LEAF_POINTS
    _random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(_SEED))
    _cut: dict[tuple[int, int], list[Records]] = field(default_factory=dict)
    _last_voxels: dict[int, int] = field(default_factory=dict)

    def nodes(self, bucket: Bucket) -> Iterator[Node]:
        """The nodes that are complete with this bucket."""
        left: Positions = np.arange(len(bucket.records))
        for level in range(DEEPEST + 1):
            if not len(left):
                break
            shift = CODE_BITS - 3 * level
            codes = bucket.codes[left]
            firsts = _starts(codes >> np.uint64(shift))
            counts = np.diff(firsts, append=len(left))
            ends = [int(codes[at]) >> shift for at in firsts]
            whole = [bucket.first <= end << shift and (end + 1) << shift <= bucket.stop for end in ends]
            keeps_all = (np.array(whole) & (counts <= self.leaf_points)) | (level == DEEPEST)
            taken = np.repeat(keeps_all, counts)
            if not keeps_all.all():
                taken[self._one_per_voxel(codes, level, ~taken)] = True
            for at, (start, count) in enumerate(zip(firsts, counts, strict=True)):
                mine = left[start : start + count][taken[start : start + count]]
                yield from self._give(level, ends[at], bucket.records[mine], whole=whole[at])
            left = left[~taken]
        yield from self._completed(bucket.stop)

    def _one_per_voxel(self, codes: Codes, level: int, candidates: NDArray[np.bool_]) -> Positions:
        """Positions in `codes` of one random candidate from each voxel that has had none before."""
        at = np.flatnonzero(candidates)
        voxels = codes[at] >> np.uint64(CODE_BITS - 3 * (level + GRID_BITS))
        firsts = _starts(voxels)
        counts = np.diff(firsts, append=len(at))
        chosen = firsts + (self._random.random(len(firsts)) * counts).astype(np.int64)
        again = int(voxels[0]) == self._last_voxels.get(level)
        self._last_voxels[level] = int(voxels[-1])
        positions: Positions = at[chosen[1:] if again else chosen]
        return positions

    def _give(self, level: int, code: int, records: Records, *, whole: bool) -> Iterator[Node]:
        if whole:
            yield Node(key_of(level, code), records)
        elif len(records):
            self._cut.setdefault((level, code), []).append(records)

    def _completed(self, stop: int) -> Iterator[Node]:
        done = [node for node in self._cut if (node[1] + 1) << (CODE_BITS - 3 * node[0]) <= stop]
        for level, code in sorted(done):
            yield Node(key_of(level, code), np.concatenate(self._cut.pop((level, code))))


def sorted_bucket(records: Records, codes: Codes, *, first: int = 0, stop: int = ALL_CODES) -> Bucket:
    """The points brought into Morton order."""
    order = np.argsort(codes)
    return Bucket(records[order], codes[order], first, stop)


def _starts(values: Codes) -> Positions:
    """Where runs of equal values begin."""
    starts: Positions = np.concatenate([[0], np.flatnonzero(values[1:] != values[:-1]) + 1])
    return starts
