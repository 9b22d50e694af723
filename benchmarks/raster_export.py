"""Export benchmark: NDVI of a generated orthophoto as RGBA, compared with peers and with the limit.

    python benchmarks/raster_export.py             # 10000 × 10000 pixels
    python benchmarks/raster_export.py --large     # and 20000 × 20000, for candidates that can process it

Each candidate runs in its own process, one after the other, at the same DEFLATE level and tile size. rio-tiler
is installed into its own virtual environment; gdal_calc and gdaldem are measured where they are installed
(apt-get install gdal-bin python3-gdal). Close other programs first: with two cores, each one affects the result.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PEERS = Path(__file__).resolve().parent / "peers"
CORES = len(os.sched_getaffinity(0))
LEVEL, TILE_PX = 4, 512
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Measured:
    """Figures of one candidate; `work_s` excludes the start of Python and the imports."""

    name: str
    work_s: float
    wall_s: float
    cpu_s: float
    peak_mib: float
    output_mb: float
    phases: dict[str, float]


def main() -> None:
    options = arguments()
    folder = Path(options.keep or tempfile.mkdtemp(prefix="aerotask-bench-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        rio_tiler = None if options.without_rio_tiler else environment_with_rio_tiler(folder)
        for size_px in (10_000, 20_000) if options.large else (options.size,):
            compare(size_px, folder, rio_tiler, rounds=options.rounds, quick=size_px > 10_000)
    finally:
        if not options.keep:
            shutil.rmtree(folder)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=10_000, help="pixels along each side")
    parser.add_argument("--large", action="store_true", help="10000² and 20000²")
    parser.add_argument(
        "--rounds", type=int, default=3, help="how often the product and the limit run (median)"
    )
    parser.add_argument("--keep", help="a folder for the files, kept for the next run")
    parser.add_argument(
        "--without-rio-tiler", action="store_true", help="don't install and measure rio-tiler"
    )
    return parser.parse_args()


def compare(size_px: int, folder: Path, rio_tiler: Path | None, *, rounds: int, quick: bool) -> None:
    source = orthophoto(size_px, folder)
    print(
        f"\n{size_px} × {size_px}, 4 × uint16, {source.stat().st_size / 1e6:.0f} MB; {CORES} cores, level {LEVEL}\n"
    )
    result, scratch = folder / "ours.tif", folder / "scratch.tif"
    ours_runs, limit_runs = [], []
    for _ in range(rounds):
        ours_runs.append(run_peer("ours", "ours.py", source, result, str(CORES)))
        limit_runs.append(run_peer("limit: decode, then encode", "limit.py", source, result, scratch))
    ours, limit = median(ours_runs), median(limit_runs)
    with_overviews = run_peer("ours, with overviews", "ours.py", source, scratch, str(CORES), "overviews")
    rows = [ours, with_overviews, limit]
    if not quick:
        plain_result = folder / "plain.tif"
        rows.append(run_peer("plain rasterio loop", "plain_loop.py", source, plain_result))
        rows.extend(optional_peers(source, scratch, folder, rio_tiler))
        print(f"ours and the plain loop, pixel for pixel: {differing_pixels(result, plain_result)} differ\n")
    print_table(rows, ours)
    print_goals(rows, ours, limit)


def optional_peers(source: Path, scratch: Path, folder: Path, rio_tiler: Path | None) -> list[Measured]:
    rows = []
    if rio_tiler:
        rows.append(run_peer("rio-tiler", "rio_tiler_read.py", source, scratch, python=rio_tiler))
    if shutil.which("gdal_calc.py") and shutil.which("gdaldem"):
        rows.append(run_gdal(source, scratch, folder))
    else:
        print("gdal_calc and gdaldem aren't installed here and are skipped")
    return rows


def orthophoto(size_px: int, folder: Path) -> Path:
    path = folder / f"orthophoto-{size_px}.tif"
    if not path.exists():
        print(f"generating {path.name} …", flush=True)
        code = (
            "import sys, pathlib; from aerotask.demo_data.orthophoto import write_orthophoto; "
            f"write_orthophoto(pathlib.Path(sys.argv[1]), size_px={size_px}, bands=4, threads={CORES})"
        )
        subprocess.run([sys.executable, "-c", code, str(path.with_suffix(".part"))], check=True)
        path.with_suffix(".part").rename(path)
    return path


def run_peer(name: str, script: str, *arguments: Path | str, python: Path | None = None) -> Measured:
    output = next(Path(each) for each in reversed(arguments) if str(each).endswith(".tif"))
    command = [str(python or sys.executable), str(PEERS / script), *map(str, arguments)]
    return measure(name, [command], output)


def run_gdal(source: Path, scratch: Path, folder: Path) -> Measured:
    """Runs gdal_calc and gdaldem with all cores and the same tiles and compression."""
    index, colours = folder / "index.tif", folder / "colours.txt"
    colours.write_text(
        "-1 215 48 39 255\n-0.5 253 174 97 255\n0 254 224 139 255\n0.5 166 217 106 255\n1 26 152 80 255\nnv 0 0 0 0\n"
    )
    creation = [
        f"--co={option}"
        for option in (
            "TILED=YES",
            f"BLOCKXSIZE={TILE_PX}",
            f"BLOCKYSIZE={TILE_PX}",
            "COMPRESS=DEFLATE",
            f"ZLEVEL={LEVEL}",
            "NUM_THREADS=ALL_CPUS",
            "BIGTIFF=IF_SAFER",
        )
    ]
    calc = [
        "gdal_calc.py",
        "-A",
        str(source),
        "--A_band=1",
        "-B",
        str(source),
        "--B_band=4",
        f"--outfile={index}",
    ]
    calc += [
        "--calc=(B.astype(float32)-A)/(B.astype(float32)+A)",
        "--type=Float32",
        "--NoDataValue=-9999",
        "--quiet",
        "--overwrite",
    ]
    dem = ["gdaldem", "color-relief", str(index), str(colours), str(scratch), "-alpha", "-q"]
    dem += [part for option in creation for part in ("-co", option.removeprefix("--co="))]
    return measure("gdal_calc + gdaldem", [[*calc, *creation], dem], scratch)


def measure(name: str, commands: Sequence[Sequence[str]], output: Path) -> Measured:
    """Runs the commands one after the other and adds up their figures."""
    print(f"running {name} …", flush=True)
    output.unlink(missing_ok=True)
    wall_s = cpu_s = peak_mib = 0.0
    phases: dict[str, float] = {}
    for command in commands:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment())
        assert process.stdout is not None
        said = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        wall_s += time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{name} failed")
        cpu_s += used.ru_utime + used.ru_stime
        peak_mib = max(peak_mib, used.ru_maxrss * 1024 / MIB)
        phases |= json.loads(said) if said.startswith(b"{") else {}
    work_s = sum(phases.values()) or wall_s
    return Measured(name, work_s, wall_s, cpu_s, peak_mib, output.stat().st_size / 1e6, phases)


def environment() -> dict[str, str]:
    """Environment without GDAL settings, so that each candidate uses its own, and with the peers on the path."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("GDAL_", "CPL_", "PROJ_"))
    }
    return kept | {"PYTHONPATH": str(PEERS.parents[1])}


def environment_with_rio_tiler(folder: Path) -> Path:
    python = folder / "rio-tiler" / "bin" / "python"
    if not python.exists():
        print("installing rio-tiler into its own environment …", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(python.parents[1])], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", "rio-tiler"], check=True)
    return python


def median(runs: Sequence[Measured]) -> Measured:
    """Median run by work time, with the highest memory peak of all runs."""
    middle = statistics.median_low(run.work_s for run in runs)
    chosen = next(run for run in runs if run.work_s == middle)
    peak_mib = max(run.peak_mib for run in runs)
    return Measured(
        chosen.name, chosen.work_s, chosen.wall_s, chosen.cpu_s, peak_mib, chosen.output_mb, chosen.phases
    )


def differing_pixels(one: Path, other: Path) -> int:
    code = (
        "import sys, numpy, rasterio\n"
        "with rasterio.open(sys.argv[1]) as a, rasterio.open(sys.argv[2]) as b:\n"
        "    assert a.shape == b.shape and a.crs == b.crs and a.transform == b.transform\n"
        "    print(sum(int((a.read(window=w) != b.read(window=w)).any(0).sum()) for _, w in a.block_windows(1)))\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code, str(one), str(other)], check=True, capture_output=True
    )
    return int(answer.stdout)


def print_table(rows: Sequence[Measured], ours: Measured) -> None:
    print(f"{'':28}{'work s':>8}{'process s':>11}{'CPU s':>8}{'peak MiB':>10}{'MB out':>8}{'× ours':>8}")
    for row in rows:
        ratio = row.work_s / ours.work_s
        print(
            f"{row.name:28}{row.work_s:8.2f}{row.wall_s:11.2f}{row.cpu_s:8.2f}{row.peak_mib:10.0f}"
            f"{row.output_mb:8.1f}{ratio:8.2f}"
        )
        if len(row.phases) > 1:
            print(" " * 28 + ", ".join(f"{name} {seconds:.2f}" for name, seconds in row.phases.items()))


def print_goals(rows: Sequence[Measured], ours: Measured, limit: Measured) -> None:
    times = {row.name: row.work_s / ours.work_s for row in rows}
    goals = [
        ("at least 3 × the plain loop", times.get("plain rasterio loop"), 3.0, True),
        ("at least 7 × gdal_calc + gdaldem", times.get("gdal_calc + gdaldem"), 7.0, True),
        ("at least 7 × rio-tiler", times.get("rio-tiler"), 7.0, True),
        ("at most 1.0 × decoding, then encoding", ours.work_s / limit.work_s, 1.0, False),
        ("at most 128 MiB", max(row.peak_mib for row in rows if row.name.startswith("ours")), 128.0, False),
    ]
    print()
    for goal, value, bound, at_least in goals:
        if value is not None:
            met = value >= bound if at_least else value <= bound
            print(f"{'met   ' if met else 'MISSED'}  {goal}: {value:.2f}")


if __name__ == "__main__":
    main()
