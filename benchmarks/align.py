"""align-raster compared with its peers, on surveys made from a real photograph with known true positions.

    python benchmarks/align.py                 # the ten cases, and one band on another
    python benchmarks/align.py --large         # and the whole tool on 20000 × 20000 pixels

The photographs are those of ../shared/data/brighton (or DATA/brighton with --data). Every candidate reads the same files in its
own process; CPU seconds are listed besides wall seconds, as only they are meaningful on a shared machine.
AROSICS has no wheel and needs GDAL's headers to build: if pip can't install it, it is skipped with a message.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.transform import Affine

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.alignment_cases import CRS, TRANSFORM, Case, read_photo, rmse_px, write, write_cases
from benchmarks.stacks import PEERS, ROOT, environment_with

FOUND_PX = 1.0
"""Error above which a match counts as wrong."""
GOAL_PX, GOAL_S, GOAL_CROSS_PX = 0.02, 3.0, 0.3
LARGE_PX = 20_000
GOAL_COPIES, GOAL_MIB = 4.0, 1024.0
ECC = "OpenCV ECC, affine"
PHOTOS = ("DJI_0022.JPG", "DJI_0032.JPG")


@dataclass(frozen=True, slots=True)
class Answer:
    """Result of one candidate for one case; the error is None if it found no match."""

    error_px: float | None
    wall_s: float
    cpu_s: float


def main() -> None:
    options = arguments()
    with tempfile.TemporaryDirectory(prefix="aerotask-bench-") as temporary:
        folder = Path(options.keep or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if not options.without_cases:
            photo, other = (options.data / "brighton" / name for name in PHOTOS)
            reference, cases = write_cases(photo, other, folder)
            print_cases(run_candidates(reference, cases, folder), cases)
            print_cross_bands(options.data / "multispectral" / "field.tif", folder)
        if options.large:
            print_large(options.data / "brighton", folder, options.large)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="the real data")
    parser.add_argument("--keep", help="a folder for the files, kept for the next run")
    parser.add_argument(
        "--large", type=int, nargs="?", const=LARGE_PX, help="the whole tool on so many pixels each way"
    )
    parser.add_argument("--without-cases", action="store_true", help="leave the cases and bands out")
    return parser.parse_args()


def run_candidates(reference: Path, cases: Sequence[Case], folder: Path) -> dict[str, list[Answer]]:
    ours = Path(sys.executable)
    candidates = [
        ("ours", "align_ours.py", ours),
        (ECC, "align_ecc.py", ours),
        ("SIFT + RANSAC", "align_sift.py", ours),
        ("scikit-image phase correlation", "align_skimage.py", installed(folder, "scikit-image", "rasterio")),
    ]
    if installed(folder, "arosics") is None:
        print("pip can't install AROSICS here; it is skipped")
    return {
        name: list(answers(script, python, reference, cases))
        for name, script, python in candidates
        if python is not None
    }


def installed(folder: Path, *packages: str) -> Path | None:
    """Python of a virtual environment with these packages, created now or by an earlier run."""
    python = folder / f"env-{packages[0]}" / "bin" / "python"
    failed = folder / f"env-{packages[0]}.failed"
    if python.exists() or failed.exists():
        return None if failed.exists() else python
    made = environment_with(folder, *packages)
    if made is None:
        failed.touch()
    return made


def answers(script: str, python: Path, reference: Path, cases: Sequence[Case]) -> Iterator[Answer]:
    print(f"running {script} …", flush=True)
    sources = [str(case.source) for case in cases]
    said = run([str(python), str(PEERS / script), str(reference), *sources])
    with rasterio.open(cases[0].source) as opened:
        shape = opened.shape
    for case, line in zip(cases, said.splitlines(), strict=True):
        found = json.loads(line)
        error = None if found["matrix"] is None else rmse_px(np.array(found["matrix"]), case, shape)
        yield Answer(error, found["wall_s"], found["cpu_s"])


def run(command: Sequence[str]) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GDAL_", "PROJ_"))}
    environment = kept | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout


def print_cases(found: dict[str, list[Answer]], cases: Sequence[Case]) -> None:
    print(f"\nerror in px / CPU s ({os.cpu_count()} cores, load {os.getloadavg()[0]:.0f})\n")
    print(" " * 32 + "".join(f"{name:>32}" for name in found))
    for number, case in enumerate(cases):
        row = "".join(f"{summary(each[number]):>32}" for each in found.values())
        print(f"{case.name:32}{row}")
    ours, ecc = found["ours"], found[ECC]
    wrong = [each.error_px for each in ours if each.error_px is not None and each.error_px > FOUND_PX]
    worst = max(each.error_px if each.error_px is not None else np.inf for each in ours)
    longest, longest_cpu = max(each.wall_s for each in ours), max(each.cpu_s for each in ours)
    print()
    goal(f"at most {GOAL_PX} px in every case", worst, worst <= GOAL_PX)
    goal("never success on a wrong answer", len(wrong), not wrong)
    goal(f"at most {GOAL_S:g} s each (wall)", longest, longest <= GOAL_S)
    goal(
        f"at most {GOAL_S:g} s each (CPU, half of it on each core)",
        longest_cpu / 2,
        longest_cpu / 2 <= GOAL_S,
    )
    ratio = sum(each.cpu_s for each in ecc) / sum(each.cpu_s for each in ours)
    print(f"        {ECC}: {ratio:.1f} × our CPU time")


def summary(answer: Answer) -> str:
    error = "no match" if answer.error_px is None else f"{answer.error_px:.4f}"
    return f"{'LOST ' if (answer.error_px or 0) > FOUND_PX else ''}{error} / {answer.cpu_s:.1f}"


def goal(text: str, value: float, met: bool) -> None:  # noqa: FBT001
    print(f"{'met   ' if met else 'MISSED'}  {text}: {value:.3g}")


def print_cross_bands(field: Path, folder: Path) -> None:
    """Aligns one band with another; the known value is the shift of a copy."""
    with rasterio.open(field) as opened:
        pixels, nodata = opened.read(), opened.nodata
    print()
    for name, one, other in (("green to red edge", 1, 4), ("red to near infrared", 0, 3)):
        reference = write(folder / f"band-{other}.tif", pixels[other : other + 1], nodata=nodata)
        still = write(folder / f"band-{one}.tif", pixels[one : one + 1], nodata=nodata)
        moved = write(folder / f"band-{one}-moved.tif", pixels[one : one + 1, 4:, 7:], nodata=nodata)
        lines = run(
            [sys.executable, str(PEERS / "align_ours.py"), str(reference), str(still), str(moved)]
        ).splitlines()
        first, second = (np.array(json.loads(line)["matrix"]) for line in lines)
        places = np.array([[100.0, 100, 1], [1000, 100, 1], [100, 700, 1], [1000, 700, 1]])
        off = float(np.hypot(*(places @ second.T - (places + np.array([7, 4, 0])) @ first.T).T).max())
        goal(f"{name}, at most {GOAL_CROSS_PX} px", off, off <= GOAL_CROSS_PX)


def print_large(photos: Path, folder: Path, size_px: int) -> None:
    """Runs the whole tool, and reading and writing its source once, each in its own process."""
    reference, source = write_large(photos, folder, size_px)
    with tempfile.TemporaryDirectory(dir=folder) as work:
        copy = measured(["align_copy.py", str(source), str(Path(work) / "copy.tif")])
        cog = measured(["align_copy.py", str(source), str(Path(work) / "cog.tif"), "cog"])
        tool = measured(["align_tool.py", str(source), str(reference), work])
    print(
        f"\n{size_px} × {size_px}, 3 bands of bytes, {source.stat().st_size / 1e6:,.0f} MB: {tool['result']}"
    )
    rows = {"reading, writing a TIFF": copy, "reading, writing a COG": cog, "the whole tool": tool}
    for name, run_ in rows.items():
        print(f"{name:28}{run_['wall_s']:8.1f} s{run_['cpu_s']:8.1f} CPU s{run_['peak_mib']:8.0f} MiB")
    for form, once in (("COG", cog), ("TIFF without overviews", copy)):
        for what in ("wall_s", "cpu_s"):
            ratio = tool[what] / once[what]
            goal(
                f"within {GOAL_COPIES:g} × reading and writing a {form} ({what})", ratio, ratio <= GOAL_COPIES
            )
    goal(f"at most {GOAL_MIB:g} MiB", tool["peak_mib"], tool["peak_mib"] <= GOAL_MIB)


def measured(arguments_: Sequence[str]) -> dict[str, Any]:
    print(f"running {arguments_[0]} …", flush=True)
    return dict(json.loads(run([sys.executable, str(PEERS / arguments_[0]), *arguments_[1:]])))


def write_large(photos: Path, folder: Path, size_px: int) -> tuple[Path, Path]:
    """Two photographs enlarged five times with fine grain, and the same rotated by 0.35° and scaled by 1.004."""
    reference, source = folder / f"large-{size_px}.tif", folder / f"large-{size_px}-source.tif"
    if source.exists():
        return reference, source
    print("making the large rasters …", flush=True)
    pictures = [read_photo(photos / name) for name in PHOTOS]
    small = np.concatenate(pictures, axis=1)[:, : size_px // 5, : size_px // 5]
    options: dict[str, Any] = {
        "driver": "GTiff", "count": 3, "dtype": "uint8", "crs": CRS, "nodata": 0, "height": size_px, "width": size_px,
        "tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "zlevel": 1, "predictor": 2,
        "interleave": "pixel", "num_threads": 2, "bigtiff": "IF_SAFER",
    }  # fmt: skip
    wrong = Affine.translation(3.1, -2.2) @ TRANSFORM @ Affine.rotation(0.35) @ Affine.scale(1.004)
    with (
        rasterio.open(reference, "w", transform=TRANSFORM, **options) as right,
        rasterio.open(source, "w", transform=wrong, **options) as moved,
    ):
        random = np.random.default_rng(1)
        for top in range(0, size_px, 500):
            part = small[:, top // 5 : top // 5 + 100].repeat(5, axis=1).repeat(5, axis=2).astype(np.int16)
            grain = random.normal(0, 6, part.shape[1:]).astype(np.int16)
            window = rasterio.windows.Window(0, top, size_px, 500)
            pixels = np.clip(part + grain, 1, 255).astype(np.uint8)
            right.write(pixels, window=window)
            moved.write(pixels, window=window)
    return reference, source


if __name__ == "__main__":
    main()
