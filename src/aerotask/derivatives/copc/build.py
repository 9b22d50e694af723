"""Makes a COPC of a LAS or LAZ file, and reads it back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import laspy
import numpy as np

from aerotask.derivatives.copc.morton_sort import ordered, points_in_memory
from aerotask.derivatives.copc.octree import Octree
from aerotask.derivatives.copc.reader import PIECE_POINTS, CloudFile, open_cloud
from aerotask.derivatives.copc.writer import CopcWriter, copc_file
from aerotask.domain.errors import TaskFailed


def build_copc(
    source: Path,
    target: Path,
    *,
    on_progress: Callable[[float], None],
    points_at_once: int | None = None,
) -> dict[str, Any]:
    """Write the cloud at `source` as a COPC at `target`, which must not exist; what it then holds.

    Temporary files go beside the target. `points_at_once` replaces what the memory allows for.

    Raises:
        InvalidInput: the file is no cloud that can be read (`unreadable-cloud`, `unsupported-layout`).
        TaskFailed: what was written doesn't read back as it should (`derivative-damaged`).
    """
    cloud = open_cloud(source)
    at_once = points_at_once or points_in_memory(cloud)
    points = ordered(
        cloud, target.parent, at_once=at_once, on_progress=lambda share: on_progress(0.4 * share)
    )
    octree = Octree()
    with copc_file(target, cloud, points.cube) as writer:
        for bucket in points.buckets:
            for node in octree.nodes(bucket):
                writer.add(node)
                on_progress(0.4 + 0.4 * writer.points / cloud.points)
    _check(target, cloud, writer, lambda share: on_progress(0.8 + 0.2 * share))
    return _properties(target, writer)


def _check(target: Path, cloud: CloudFile, writer: CopcWriter, on_progress: Callable[[float], None]) -> None:
    """Decode every point again: as many as before, and with the sums that the nodes had."""
    found = 0
    least, most = np.full(3, 2**31), np.full(3, -(2**31))
    with laspy.open(target) as reader:
        for piece in reader.chunk_iterator(PIECE_POINTS):
            found += len(piece)
            stored = np.stack([piece.array[name] for name in "XYZ"])
            least, most = np.minimum(least, stored.min(axis=1)), np.maximum(most, stored.max(axis=1))
            on_progress(found / cloud.points)
    same_bounds = least.tolist() == writer.least and most.tolist() == writer.most
    if not found == writer.points == cloud.points or not same_bounds:
        raise TaskFailed(
            f"The COPC doesn't read back as it should ({found:,} of {cloud.points:,} points).",
            code="derivative-damaged",
        )


def _properties(target: Path, writer: CopcWriter) -> dict[str, Any]:
    with laspy.CopcReader.open(str(target)) as reader:
        header = reader.header
        return {
            "points": int(header.point_count),
            "pointFormat": int(header.point_format.id),
            "dimensions": list(header.point_format.dimension_names),
            "bounds": [[float(value) for value in ends] for ends in (header.mins, header.maxs)],
            "nodes": len(writer.written),
            "levels": 1 + max(key.level for key, _ in writer.written),
            "spacing": writer.cube.side / 128,
        }
