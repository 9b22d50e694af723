"""Writing the nodes of our octree to a COPC, with our writer or copclib's: copc_nodes.py SOURCE TARGET ours|copclib."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
from benchmarks.peers.align_clock import peak_mib

from aerotask.derivatives.copc.bounds import Cube
from aerotask.derivatives.copc.morton_sort import points_in_memory, sort_cloud
from aerotask.derivatives.copc.octree import GRID, Node, Octree
from aerotask.derivatives.copc.reader import CloudFile, open_cloud
from aerotask.derivatives.copc.writer import copc_file


def write_ours(target: Path, cloud: CloudFile, cube: Cube, nodes: list[Node]) -> None:
    with copc_file(target, cloud, cube) as writer:
        for node in nodes:
            writer.add(node)


def write_copclib(target: Path, cloud: CloudFile, cube: Cube, nodes: list[Node]) -> None:
    """The nodes' own bytes: copclib compresses them one after the other, in this thread."""
    import copclib  # noqa: PLC0415  only in its own environment

    scale, offset = copclib.Vector3(*cloud.scales), copclib.Vector3(*cloud.offsets)
    config = copclib.CopcConfigWriter(cloud.target_format.id, scale, offset)
    half = cube.side / 2
    config.copc_info.center_x, config.copc_info.center_y, config.copc_info.center_z = (
        low + half for low in cube.corner
    )
    config.copc_info.halfsize, config.copc_info.spacing = half, cube.side / GRID
    config.las_header.min = copclib.Vector3(*cube.corner)
    config.las_header.max = copclib.Vector3(*(low + cube.side for low in cube.corner))
    writer = copclib.FileWriter(str(target), config)
    for node in nodes:
        writer.AddNode(
            copclib.VoxelKey(*node.key), copclib.VectorChar(np.ascontiguousarray(node.records).view(np.int8))
        )
    writer.Close()


def main() -> None:
    source, target, name = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    cloud = open_cloud(source)
    points = sort_cloud(
        cloud, target.parent, max_points=points_in_memory(cloud), on_progress=lambda _share: None
    )
    octree = Octree()
    nodes = [node for bucket in points.buckets for node in octree.nodes(bucket)]
    write = {"ours": write_ours, "copclib": write_copclib}[name]
    started_s, started_cpu_s = time.perf_counter(), time.process_time()
    write(target, cloud, points.cube, nodes)
    figures = {"wall_s": time.perf_counter() - started_s, "cpu_s": time.process_time() - started_cpu_s}
    print(json.dumps({**figures, "peak_mib": peak_mib()}))


if __name__ == "__main__":
    main()
