"""COPC and COG as the tool `build` makes them, beside peers and the limit, in one run.

    python benchmarks/derivatives.py                         # 3 million points, 5000 × 5000 pixels
    python benchmarks/derivatives.py --points 12000000 --size 10000

Each candidate runs in a process of its own, one after the other. A cloud's limit is reading the LAZ and writing it
again unchanged, on all cores; the peer for writing the octree's nodes is copclib, installed into an environment of its
own. A COG's peer is rio-cogeo with the same compression, tiles and resampling, in the source's own grid as ours. Close
other programs before.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import laspy
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.stacks import ROOT, environment_with

from aerotask.demo_data.orthophoto import write_orthophoto

PIECE = 1_000_000
BANDS = 4
THREADS = 2
COPCLIB = "copclib==2.6.3"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--points", type=int, default=3_000_000, help="0 leaves the clouds out")
    parser.add_argument("--size", type=int, default=5000, help="pixels along each side")
    parser.add_argument("--candidate", nargs=3, metavar=("NAME", "SOURCE", "TARGET"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.candidate:
        measure(*options.candidate)
        return
    with tempfile.TemporaryDirectory(prefix="aerotask-bench-") as folder:
        cloud, raster = Path(folder) / "cloud.laz", Path(folder) / "raster.tif"
        if options.points:
            write_hills(cloud, options.points)
            print(f"{options.points:,} points, {cloud.stat().st_size / 1e6:.0f} MB of LAZ")
            compare(cloud, ("copc", "copc through files", "laz again"))
            compare_node_writers(cloud)
        write_orthophoto(raster, size_px=options.size, bands=BANDS, threads=THREADS)
        print(f"{options.size}², {BANDS} bands of uint16, {raster.stat().st_size / 1e6:.0f} MB of GeoTIFF")
        compare(raster, ("cog", "rio-cogeo"))


def write_hills(path: Path, points: int) -> None:
    """A rolling surface with every attribute of point format 7."""
    header = laspy.LasHeader(point_format=7, version="1.4")
    header.scales, header.offsets = np.full(3, 0.001), np.array([500_000.0, 5_000_000.0, 0.0])
    random = np.random.default_rng(1)
    with laspy.open(path, "w", header=header) as writer:
        for done in range(0, points, PIECE):
            count = min(PIECE, points - done)
            piece = laspy.ScaleAwarePointRecord.zeros(count, header=header)
            x, y = 500 * random.random(count), 500 * random.random(count)
            piece.x, piece.y, piece.z = 500_000 + x, 5_000_000 + y, 10 * np.sin(x / 20) + random.random(count)
            piece["gps_time"] = np.sort(random.random(count))
            piece["intensity"] = random.integers(0, 4000, count)
            for colour in ("red", "green", "blue"):
                piece[colour] = random.integers(0, 255, count) * 256
            writer.write_points(piece)


def compare(source: Path, candidates: tuple[str, ...]) -> None:
    first_s = 0.0
    for name in candidates:
        target = source.parent / f"made{len(list(source.parent.iterdir()))}{source.suffix}"
        command = [sys.executable, __file__, "--candidate", name, str(source), str(target)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        figures = json.loads(done.stdout.splitlines()[-1])
        first_s = first_s or figures["wall_s"]
        print(
            f"  {name:20} {figures['wall_s']:7.1f} s  {figures['cpu_s']:7.1f} s CPU  ×{figures['wall_s'] / first_s:5.2f}"
            f"  {figures['peak_mib']:6.0f} MiB  {target.stat().st_size / 1e6:6.0f} MB"
        )


def compare_node_writers(cloud: Path) -> None:
    """Our COPC writer and copclib's, each given the same nodes; only the writing counts."""
    python = environment_with(cloud.parent, COPCLIB)
    if python is None:
        print("copclib can't be installed here and is left out")
        return
    paths = [str(ROOT), str(ROOT / "src"), sysconfig.get_path("platlib")]
    first_cpu_s = 0.0
    for name in ("ours", "copclib"):
        target = cloud.parent / f"nodes-{name}.copc.laz"
        command = [str(python), str(ROOT / "benchmarks/peers/copc_nodes.py"), str(cloud), str(target), name]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        figures = json.loads(done.stdout)
        first_cpu_s = first_cpu_s or figures["cpu_s"]
        print(
            f"  nodes, {name:13} {figures['wall_s']:7.1f} s  {figures['cpu_s']:7.1f} s CPU"
            f"  ×{figures['cpu_s'] / first_cpu_s:5.2f} CPU  {target.stat().st_size / 1e6:6.0f} MB"
        )


def measure(name: str, source: str, target: str) -> None:
    """One candidate, in this process: its time without imports, and its peak memory with them."""
    run = CANDIDATES[name]()
    begun_s, begun_cpu_s = time.perf_counter(), time.process_time()
    run(Path(source), Path(target))
    figures = {
        "wall_s": time.perf_counter() - begun_s,
        "cpu_s": time.process_time() - begun_cpu_s,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(json.dumps(figures))


Run = Callable[[Path, Path], object]


def copc(max_points: int | None = None) -> Run:
    from aerotask.derivatives.copc.build import build_copc  # noqa: PLC0415

    return lambda source, target: build_copc(
        source, target, on_progress=lambda _share: None, max_points=max_points
    )


def laz_again() -> Run:
    def run(source: Path, target: Path) -> None:
        with laspy.open(source) as reader, laspy.open(target, "w", header=reader.header) as writer:
            for piece in reader.chunk_iterator(PIECE):
                writer.write_points(piece)

    return run


def cog() -> Run:
    from aerotask.derivatives.cog import build_cog  # noqa: PLC0415

    return lambda source, target: build_cog(source, target, threads=THREADS, on_progress=lambda _share: None)


def rio_cogeo() -> Run:
    from rio_cogeo.cogeo import cog_translate  # noqa: PLC0415
    from rio_cogeo.profiles import cog_profiles  # noqa: PLC0415

    profile = {**cog_profiles["deflate"], "blockxsize": 256, "blockysize": 256, "predictor": 2}
    config = {"GDAL_NUM_THREADS": str(THREADS)}
    return lambda source, target: cog_translate(
        source,
        target,
        profile,
        overview_resampling="average",
        in_memory=False,
        quiet=True,
        config=config,
    )


CANDIDATES: dict[str, Callable[[], Run]] = {
    "copc": copc,
    "copc through files": lambda: copc(1_000_000),
    "laz again": laz_again,
    "cog": cog,
    "rio-cogeo": rio_cogeo,
}


if __name__ == "__main__":
    main()
