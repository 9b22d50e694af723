"""Merge benchmark: five bands of a generated orthophoto merged into a COG, compared with peers.

    python benchmarks/merge.py             # 10000 × 10000 pixels
    python benchmarks/merge.py --large     # and ours alone at 20000 × 20000, for its memory

Each candidate runs in its own process, one after the other, at the same DEFLATE level, predictor, tile size and
overview resampling, on all cores. The peers read the bands through a VRT that gdalbuildvrt makes
(apt-get install gdal-bin); without it, only ours is measured. Close other programs first.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.peers.clock import DEFLATE_LEVEL, TILE_PX
from benchmarks.raster_export import (
    CORES,
    PEERS,
    Measured,
    differing_pixels,
    measure,
    median,
    print_table,
)

BANDS = ("blue", "green", "red", "nir", "rededge")


def main() -> None:
    options = arguments()
    folder = Path(options.keep or tempfile.mkdtemp(prefix="aerotask-bench-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        compare(options.size, folder, rounds=options.rounds)
        if options.large:
            bands = band_files(20_000, folder)
            print_table([ours := run_ours(bands, folder / "ours.tif")], ours)
    finally:
        if not options.keep:
            shutil.rmtree(folder)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=10_000, help="pixels along each side")
    parser.add_argument("--large", action="store_true", help="then the product alone at 20000²")
    parser.add_argument("--rounds", type=int, default=3, help="how often each runs (median)")
    parser.add_argument("--keep", help="a folder for the files, kept for the next run")
    return parser.parse_args()


def compare(size_px: int, folder: Path, *, rounds: int) -> None:
    bands = band_files(size_px, folder)
    source_mb = sum(band.stat().st_size for band in bands) / 1e6
    print(f"\n{size_px} × {size_px}, 5 × uint16, {source_mb:.0f} MB; {CORES} cores, level {DEFLATE_LEVEL}\n")
    result, scratch = folder / "ours.tif", folder / "scratch.tif"
    vrt = stacked(bands, folder / f"bands-{size_px}.vrt")
    runs: dict[str, list[Measured]] = {}
    for _ in range(rounds):
        for row in (run_ours(bands, result), *(run_peers(vrt, scratch) if vrt else ())):
            runs.setdefault(row.name, []).append(row)
    if vrt:
        print(f"ours and GDAL's, pixel for pixel: {differing_pixels(result, scratch)} differ\n")
    rows = [median(each) for each in runs.values()]
    print_table(rows, rows[0])
    print_goals(rows)


def band_files(size_px: int, folder: Path) -> list[Path]:
    """Writes one file per band, tiled and compressed as photogrammetry software does."""
    paths = [folder / f"{name}-{size_px}.tif" for name in BANDS]
    if not all(path.exists() for path in paths):
        print(f"generating bands of {size_px} × {size_px} pixels …", flush=True)
        code = (
            "import sys, pathlib, rasterio; from aerotask.demo_data.orthophoto import write_orthophoto\n"
            f"whole = pathlib.Path(sys.argv[1]) / 'whole.tif'; write_orthophoto(whole, size_px={size_px}, threads={CORES})\n"
            "with rasterio.open(whole) as source:\n"
            "    for band, name in enumerate(source.descriptions, start=1):\n"
            f"        path = pathlib.Path(sys.argv[1]) / f'{{name}}-{size_px}.tif'\n"
            "        profile = source.profile | {'count': 1, 'interleave': 'band'}\n"
            "        with rasterio.open(path, 'w', **profile) as target:\n"
            "            target.set_band_description(1, name)\n"
            "            for _, window in source.block_windows(1):\n"
            "                target.write(source.read(band, window=window), 1, window=window)\n"
            "whole.unlink()\n"
        )
        subprocess.run([sys.executable, "-c", code, str(folder)], check=True)
    return paths


def stacked(bands: list[Path], vrt: Path) -> Path | None:
    if not (shutil.which("gdalbuildvrt") and shutil.which("gdal_translate")):
        print("GDAL's programs aren't installed here; the peers that need them are skipped")
        return None
    command = ["gdalbuildvrt", "-q", "-overwrite", "-separate", str(vrt), *map(str, bands)]
    subprocess.run(command, check=True)
    return vrt


def run_ours(bands: list[Path], target: Path) -> Measured:
    script = [sys.executable, str(PEERS / "merge_ours.py"), str(target), str(CORES)]
    return measure("ours", [[*script, *map(str, bands)]], target)


def run_peers(vrt: Path, target: Path) -> list[Measured]:
    creation = {
        "COMPRESS": "DEFLATE",
        "LEVEL": str(DEFLATE_LEVEL),
        "PREDICTOR": "YES",
        "BLOCKSIZE": str(TILE_PX),
        "NUM_THREADS": "ALL_CPUS",
        "OVERVIEW_RESAMPLING": "AVERAGE",
        "BIGTIFF": "IF_SAFER",
    }
    options = [part for name, value in creation.items() for part in ("-co", f"{name}={value}")]
    translate = ["gdal_translate", "-q", "-of", "COG", *options, str(vrt), str(target)]
    return [
        measure(
            "rio-cogeo", [[sys.executable, str(PEERS / "merge_rio_cogeo.py"), str(target), str(vrt)]], target
        ),
        measure(
            "GDAL of rasterio, COG",
            [[sys.executable, str(PEERS / "merge_rasterio.py"), str(target), str(vrt)]],
            target,
        ),
        measure("gdalbuildvrt + gdal_translate", [translate], target),
    ]


def print_goals(rows: list[Measured]) -> None:
    ours, peers = rows[0], rows[1:]
    print()
    if peers:
        ratio = min(row.work_s for row in peers) / ours.work_s
        print(f"{'met   ' if ratio >= 1 else 'MISSED'}  not slower than the fastest: {ratio:.2f} × our time")
    print(f"{'met   ' if ours.peak_mib <= 256 else 'MISSED'}  at most 256 MiB: {ours.peak_mib:.0f}")


if __name__ == "__main__":
    main()
