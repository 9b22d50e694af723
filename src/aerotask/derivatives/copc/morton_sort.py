"""External sort of a cloud in Morton order: in memory if it fits, else through temporary files that each fit."""

from __future__ import annotations

from collections import Counter
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
from aerotask.derivatives.copc.colours import eight_bit_channels, maxima
from aerotask.derivatives.copc.octree import LEAF_POINTS, Bucket, sorted_bucket
from aerotask.derivatives.copc.reader import CloudFile

CLOUD_BYTES = 768 * 1024 * 1024
"""Memory for the points of a cloud, or of a bucket, including working arrays."""
MAX_BUCKETS = 500
"""Each bucket is a file that stays open while points are distributed."""

_WORKING_BYTES = 64  # per point, besides its record and its sorted copy: codes, order, remaining positions
_SAMPLE = 250_000

Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class SortedCloud:
    """Cloud in Morton order: its cube, its bounds, its 8-bit colour channels, and its points in buckets."""

    cube: Cube
    bounds: Bounds
    eight_bit_channels: tuple[str, ...]
    buckets: Iterator[Bucket]


def points_in_memory(cloud: CloudFile) -> int:
    """Number of points that fit into memory; larger clouds are sorted through temporary files."""
    return CLOUD_BYTES // (2 * cloud.record_bytes + _WORKING_BYTES)


def sort_cloud(cloud: CloudFile, folder: Path, *, max_points: int, on_progress: Progress) -> SortedCloud:
    """Sort the points in Morton order with about `max_points` in memory at a time.

    Temporary files are written to `folder`; each is removed once it has been read.
    """
    if cloud.points <= max_points:
        return _in_memory(cloud, on_progress)
    bounds, channels, sample = _scan(cloud, lambda share: on_progress(share / 2))
    cube = cube_around(bounds, cloud.scales, cloud.offsets)
    # Buckets are half full on average, since edges from a sample are approximate.
    count = min(-(-2 * cloud.points // max_points), MAX_BUCKETS)
    edges = _edges(cube.codes(sample), count, points=cloud.points)
    files = [folder / f"bucket-{number}" for number in range(len(edges) + 1)]
    _distribute(cloud, cube, edges, files, lambda share: on_progress(0.5 + share / 2))
    return SortedCloud(cube, bounds, channels, _from_files(cube, edges, files, cloud))


def _in_memory(cloud: CloudFile, on_progress: Progress) -> SortedCloud:
    records = np.empty(cloud.points, cloud.target_format.dtype())
    done = 0
    for chunk in cloud.chunks():
        records[done : done + len(chunk)] = chunk
        done += len(chunk)
        on_progress(done / cloud.points)
    bounds = bounds_of(records)
    cube = cube_around(bounds, cloud.scales, cloud.offsets)
    channels = eight_bit_channels(maxima(records))
    return SortedCloud(cube, bounds, channels, iter([sorted_bucket(records, cube.codes(records))]))


def _scan(cloud: CloudFile, on_progress: Progress) -> tuple[Bounds, tuple[str, ...], Records]:
    """Bounds and 8-bit colour channels of all points, and an evenly spaced sample."""
    step = max(cloud.points // _SAMPLE, 1)
    bounds: Bounds | None = None
    highest: Counter[str] = Counter()
    samples = []
    done = 0
    for chunk in cloud.chunks():
        bounds = bounds_of(chunk).merged(bounds) if bounds else bounds_of(chunk)
        highest |= Counter(maxima(chunk))
        samples.append(chunk[-done % step :: step].copy())
        done += len(chunk)
        on_progress(done / cloud.points)
    if bounds is None:
        raise ValueError("a cloud without points can't be sorted")
    return bounds, eight_bit_channels(highest), np.concatenate(samples)


def _edges(sample: Codes, count: int, *, points: int) -> list[int]:
    """Codes at which the buckets after the first begin.

    Each is the first code of a node that, by the sample, fits into a leaf, so that few nodes are split.
    """
    codes = np.sort(sample)
    leaf_samples = max(LEAF_POINTS * len(codes) // points, 1)
    quantiles = codes[np.arange(1, count) * len(codes) // count]
    return sorted({_node_start(codes, int(code), leaf_samples) for code in quantiles} - {0})


def _node_start(codes: Codes, code: int, leaf_samples: int) -> int:
    for shift in range(CODE_BITS - 3, 0, -3):
        start = code >> shift << shift
        inside = np.searchsorted(codes, np.array([start, start + (1 << shift)], np.uint64))
        if inside[1] - inside[0] <= leaf_samples:
            return start
    return code


def _distribute(
    cloud: CloudFile, cube: Cube, edges: Sequence[int], files: Sequence[Path], on_progress: Progress
) -> None:
    divisions = np.array(edges, np.uint64)
    done = 0
    with ExitStack() as stack:
        targets = [stack.enter_context(file.open("xb")) for file in files]
        for chunk in cloud.chunks():
            numbers = np.searchsorted(divisions, cube.codes(chunk), side="right")
            order = np.argsort(numbers, kind="stable")
            stops = np.cumsum(np.bincount(numbers, minlength=len(files)))
            for target, positions in zip(targets, np.split(order, stops[:-1]), strict=True):
                if len(positions):
                    target.write(_bytes_of(chunk[positions]))
            done += len(chunk)
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
