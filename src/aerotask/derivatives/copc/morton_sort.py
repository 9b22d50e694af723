"""A cloud in Morton order: sorted in memory where it fits, else dealt to temporary files that each fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aerotask.derivatives.copc.bounds import (
    ALL_CODES,
    CODE_BITS,
    Bounds,
    Codes,
    Cube,
    Records,
    bounds_of,
    cube_around,
)
from aerotask.derivatives.copc.octree import LEAF_POINTS, Bucket, sorted_bucket
from aerotask.derivatives.copc.reader import CloudFile

CLOUD_BYTES = 768 * 1024 * 1024
"""What the points of a cloud, or of a bucket, and the work on them may take of the memory."""
MAX_BUCKETS = 500
"""Each is a file that is open while the points are dealt."""

_WORKING_BYTES = (
    64  # for each point, beside its record and its sorted copy: codes, order, what a level leaves
)
_SAMPLE = 250_000

Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class SortedCloud:
    """A cloud's cube, its bounds, and its points as buckets in Morton order."""

    cube: Cube
    bounds: Bounds
    buckets: Iterator[Bucket]


def points_in_memory(cloud: CloudFile) -> int:
    """How many points may be worked on at once; a cloud of more goes through temporary files."""
    return CLOUD_BYTES // (2 * cloud.record_bytes + _WORKING_BYTES)


def ordered(cloud: CloudFile, folder: Path, *, at_once: int, on_progress: Progress) -> SortedCloud:
    """The points in Morton order, not many more than `at_once` in memory at a time.

    `folder` takes temporary files, each gone once it has been read.
    """
    if cloud.points <= at_once:
        return _in_memory(cloud, on_progress)
    bounds, sample = _survey(cloud, lambda share: on_progress(share / 2))
    cube = cube_around(bounds, cloud.scales, cloud.offsets)
    # Half full on average, since a sample tells where to divide only roughly.
    count = min(-(-2 * cloud.points // at_once), MAX_BUCKETS)
    edges = _edges(cube.codes(sample), count, points=cloud.points)
    files = [folder / f"bucket-{number}" for number in range(len(edges) + 1)]
    _deal(cloud, cube, edges, files, lambda share: on_progress(0.5 + share / 2))
    return SortedCloud(cube, bounds, _from_files(cube, edges, files, cloud))


def _in_memory(cloud: CloudFile, on_progress: Progress) -> SortedCloud:
    records = np.empty(cloud.points, cloud.target_format.dtype())
    done = 0
    for piece in cloud.pieces():
        records[done : done + len(piece)] = piece
        done += len(piece)
        on_progress(done / cloud.points)
    bounds = bounds_of(records)
    cube = cube_around(bounds, cloud.scales, cloud.offsets)
    return SortedCloud(cube, bounds, iter([sorted_bucket(records, cube.codes(records))]))


def _survey(cloud: CloudFile, on_progress: Progress) -> tuple[Bounds, Records]:
    """The bounds of all points, and every so manieth of them."""
    step = max(cloud.points // _SAMPLE, 1)
    bounds: Bounds | None = None
    samples = []
    done = 0
    for piece in cloud.pieces():
        bounds = bounds_of(piece).joined(bounds) if bounds else bounds_of(piece)
        samples.append(piece[-done % step :: step].copy())
        done += len(piece)
        on_progress(done / cloud.points)
    if bounds is None:
        raise ValueError("a cloud without points has no order")
    return bounds, np.concatenate(samples)


def _edges(sample: Codes, count: int, *, points: int) -> list[int]:
    """The codes at which the buckets after the first begin.

    Each is the first of a node that has room in a leaf, as far as the sample tells, so that few nodes are cut.
    """
    codes = np.sort(sample)
    enough = max(LEAF_POINTS * len(codes) // points, 1)
    middles = codes[np.arange(1, count) * len(codes) // count]
    return sorted({_node_start(codes, int(code), enough) for code in middles} - {0})


def _node_start(codes: Codes, code: int, enough: int) -> int:
    for shift in range(CODE_BITS - 3, 0, -3):
        start = code >> shift << shift
        inside = np.searchsorted(codes, np.array([start, start + (1 << shift)], np.uint64))
        if inside[1] - inside[0] <= enough:
            return start
    return code


def _deal(
    cloud: CloudFile, cube: Cube, edges: Sequence[int], files: Sequence[Path], on_progress: Progress
) -> None:
    divisions = np.array(edges, np.uint64)
    done = 0
    with ExitStack() as stack:
        targets = [stack.enter_context(file.open("xb")) for file in files]
        for piece in cloud.pieces():
            numbers = np.searchsorted(divisions, cube.codes(piece), side="right")
            order = np.argsort(numbers, kind="stable")
            stops = np.cumsum(np.bincount(numbers, minlength=len(files)))
            for target, mine in zip(targets, np.split(order, stops[:-1]), strict=True):
                if len(mine):
                    target.write(_bytes_of(piece[mine]))
            done += len(piece)
            on_progress(done / cloud.points)


def _from_files(
    cube: Cube, edges: Sequence[int], files: Sequence[Path], cloud: CloudFile
) -> Iterator[Bucket]:
    firsts, stops = [0, *edges], [*edges, ALL_CODES]
    for file, first, stop in zip(files, firsts, stops, strict=True):
        records = np.fromfile(file, cloud.target_format.dtype())
        file.unlink()
        yield sorted_bucket(records, cube.codes(records), first=first, stop=stop)


def _bytes_of(records: Records) -> bytes:
    return np.ascontiguousarray(records).tobytes()
