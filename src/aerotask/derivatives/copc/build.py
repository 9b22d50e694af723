"""COPC builder: converts a LAS or LAZ file and reads the result back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import laspy
import numpy as np

from aerotask.derivatives.copc.colours import scale_to_16_bits
from aerotask.derivatives.copc.morton_sort import SortedCloud, points_in_memory, sort_cloud
from aerotask.derivatives.copc.octree import Octree
from aerotask.derivatives.copc.reader import CHUNK_POINTS, CloudFile, open_cloud
from aerotask.derivatives.copc.records import has_waveforms
from aerotask.derivatives.copc.writer import CopcWriter, copc_file
from aerotask.domain.errors import TaskFailed


def build_copc(
    source: Path,
    target: Path,
    *,
    on_progress: Callable[[float], None],
    max_points: int | None = None,
) -> dict[str, Any]:
    """Write the cloud at `source` as a COPC at `target`, which must not exist; returns its properties.

    Temporary files are written beside the target. `max_points` overrides the number of points held in memory.

    Raises:
        InvalidInput: the file is not a readable cloud (`unreadable-cloud`, `unsupported-layout`).
        TaskFailed: the COPC reads back with other points (`derivative-damaged`).
    """
    cloud = open_cloud(source)
    max_points = max_points or points_in_memory(cloud)
    points = sort_cloud(
        cloud, target.parent, max_points=max_points, on_progress=lambda share: on_progress(0.4 * share)
    )
    octree = Octree()
    with copc_file(target, cloud, points.cube) as writer:
        for bucket in points.buckets:
            for node in octree.nodes(bucket):
                scale_to_16_bits(node.records, points.eight_bit_channels)
                writer.add(node)
                on_progress(0.4 + 0.4 * writer.points / cloud.points)
    _check(target, cloud, writer, lambda share: on_progress(0.8 + 0.2 * share))
    return {**_properties(target, writer), "warnings": _warnings(cloud, points)}


def _warnings(cloud: CloudFile, points: SortedCloud) -> list[str]:
    warnings = []
    if points.eight_bit_channels:
        names = ", ".join(points.eight_bit_channels)
        warnings.append(
            f"The colours ({names}) have 8 bits; the COPC has them scaled to 16, as LAS requires."
        )
    if has_waveforms(cloud.header.point_format):
        warnings.append("The COPC has no waveforms, for which its format has no place.")
    return warnings


def _check(target: Path, cloud: CloudFile, writer: CopcWriter, on_progress: Callable[[float], None]) -> None:
    """Decode every point again, and compare their number and bounds with those written."""
    found = 0
    minimum, maximum = np.full(3, 2**31), np.full(3, -(2**31))
    with laspy.open(target) as reader:
        for chunk in reader.chunk_iterator(CHUNK_POINTS):
            found += len(chunk)
            stored = np.stack([chunk.array[name] for name in "XYZ"])
            minimum, maximum = (
                np.minimum(minimum, stored.min(axis=1)),
                np.maximum(maximum, stored.max(axis=1)),
            )
            on_progress(found / cloud.points)
    same_bounds = minimum.tolist() == writer.minimum and maximum.tolist() == writer.maximum
    if not found == writer.points == cloud.points or not same_bounds:
        raise TaskFailed(
            f"The COPC reads back with {found:,} of {cloud.points:,} points, or with other bounds.",
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
