"""Octree: assigns points to nodes. A node takes one point from each of its 128³ voxels, its children the rest.

The points are in Morton order, so the points of a node and of a voxel are adjacent on every level, and a level costs one
pass over the remaining points. A cloud too large for memory comes in consecutive buckets; a node that is split by the
edge of a bucket is held back until its second half has arrived.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from aerotask.derivatives.copc.bounds import ALL_CODES, BITS, CODE_BITS, Codes, NodeKey, Records, key_of

GRID_BITS = 7
GRID = 1 << GRID_BITS
"""Number of voxels along a node's edge."""
LEAF_POINTS = 100_000
"""A node with at most this many points is a leaf."""
MAX_LEVEL = BITS - GRID_BITS
"""Level at which a voxel is the smallest cell of the codes; its nodes take all remaining points."""

_SEED = 7
Positions = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Bucket:
    """All points of the cloud with codes in `range(first, stop)`, in Morton order."""

    records: Records
    codes: Codes
    first: int = 0
    stop: int = ALL_CODES


@dataclass(frozen=True, slots=True)
class Node:
    """Node with all of its own points."""

    key: NodeKey
    records: Records


@dataclass(slots=True)
class Octree:
    """Octree that turns buckets, in order, into nodes; `leaf_points` is the maximum size of a leaf."""

    leaf_points: int = LEAF_POINTS
    _random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(_SEED))
    _partial_nodes: dict[tuple[int, int], list[Records]] = field(default_factory=dict)
    _last_voxels: dict[int, int] = field(default_factory=dict)

    def nodes(self, bucket: Bucket) -> Iterator[Node]:
        """Nodes that are complete with this bucket."""
        remaining: Positions = np.arange(len(bucket.records))
        for level in range(MAX_LEVEL + 1):
            if not len(remaining):
                break
            shift = CODE_BITS - 3 * level
            codes = bucket.codes[remaining]
            firsts = _starts(codes >> np.uint64(shift))
            counts = np.diff(firsts, append=len(remaining))
            prefixes = [int(codes[position]) >> shift for position in firsts]
            whole = [
                bucket.first <= prefix << shift and (prefix + 1) << shift <= bucket.stop
                for prefix in prefixes
            ]
            keeps_all = (np.array(whole) & (counts <= self.leaf_points)) | (level == MAX_LEVEL)
            taken = np.repeat(keeps_all, counts)
            if not keeps_all.all():
                taken[self._one_per_voxel(codes, level, ~taken)] = True
            for node, (start, count) in enumerate(zip(firsts, counts, strict=True)):
                own = remaining[start : start + count][taken[start : start + count]]
                yield from self._emit(level, prefixes[node], bucket.records[own], whole=whole[node])
            remaining = remaining[~taken]
        yield from self._complete_nodes(bucket.stop)

    def _one_per_voxel(self, codes: Codes, level: int, candidates: NDArray[np.bool_]) -> Positions:
        """Positions in `codes` of one random candidate per voxel, except for a voxel served by the last bucket."""
        positions = np.flatnonzero(candidates)
        voxels = codes[positions] >> np.uint64(CODE_BITS - 3 * (level + GRID_BITS))
        firsts = _starts(voxels)
        counts = np.diff(firsts, append=len(positions))
        chosen = firsts + (self._random.random(len(firsts)) * counts).astype(np.int64)
        is_continued = int(voxels[0]) == self._last_voxels.get(level)
        self._last_voxels[level] = int(voxels[-1])
        one_each: Positions = positions[chosen[1:] if is_continued else chosen]
        return one_each

    def _emit(self, level: int, code: int, records: Records, *, whole: bool) -> Iterator[Node]:
        if whole:
            yield Node(key_of(level, code), records)
        elif len(records):
            self._partial_nodes.setdefault((level, code), []).append(records)

    def _complete_nodes(self, stop: int) -> Iterator[Node]:
        done = [node for node in self._partial_nodes if (node[1] + 1) << (CODE_BITS - 3 * node[0]) <= stop]
        for level, code in sorted(done):
            yield Node(key_of(level, code), np.concatenate(self._partial_nodes.pop((level, code))))


def sorted_bucket(records: Records, codes: Codes, *, first: int = 0, stop: int = ALL_CODES) -> Bucket:
    """Bucket of the points, sorted into Morton order."""
    order = np.argsort(codes)
    return Bucket(records[order], codes[order], first, stop)


def _starts(values: Codes) -> Positions:
    """Start positions of runs of equal values."""
    starts: Positions = np.concatenate([[0], np.flatnonzero(values[1:] != values[:-1]) + 1])
    return starts
