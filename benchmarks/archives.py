"""Archives: writing and reading ZIP and reading TAR, ours beside Info-ZIP, bsdtar, zipfile, tarfile, and `cat`.

    python benchmarks/archives.py                # 2 GB of photos and rasters, 70,000 tiny files
    python benchmarks/archives.py --mb 500       # less
    python benchmarks/archives.py --only-tar     # only reading TAR
    python benchmarks/archives.py --stack        # and a dataset of 10,000 small files through the whole stack

Each candidate runs in a process of its own, in turns; the fastest of the rounds counts, in wall and in CPU time, for
Python programs without startup and imports. unzip and zip (Info-ZIP) and bsdtar (libarchive-tools) are measured if they
are installed. Close other programs: on two cores each of them distorts the figures.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

MB = 1_000_000
PHOTO_BYTES, RASTER_BYTES = 3 * MB, 4 * MB
BUFFER_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Figures:
    """The best of a candidate's rounds."""

    wall_s: float
    cpu_s: float
    peak_mib: float | None
    """Where it is known."""


def main() -> None:
    options = arguments()
    if options.child:
        report(CHILDREN[options.child], Path(options.source), Path(options.target))
        return
    folder = Path(tempfile.mkdtemp(prefix="aerotask-bench-", dir=options.folder))
    try:
        if not options.only_stack:
            compare_large(folder, options)
            compare_tiny(folder, options)
            extended_headers(folder)
        if options.stack or options.only_stack:
            through_the_stack(options.entries)
    finally:
        shutil.rmtree(folder)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mb", type=int, default=2000, help="how many megabytes of photos and rasters")
    parser.add_argument("--tiny", type=int, default=70_000, help="how many tiny files")
    parser.add_argument("--only-stack", action="store_true", help="nothing but the stack")
    parser.add_argument("--only-tar", action="store_true", help="of archives, only reading TAR")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", help="where to make the files")
    parser.add_argument("--stack", action="store_true", help="also through the whole stack")
    parser.add_argument(
        "--entries", type=int, default=10_000, help="how many small files go through the stack"
    )
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--source", help=argparse.SUPPRESS)
    parser.add_argument("--target", help=argparse.SUPPRESS)
    return parser.parse_args()


def compare_large(folder: Path, options: argparse.Namespace) -> None:
    stored, deflated = folder / "stored", folder / "deflated"
    total = make_large(stored, deflated, options.mb * MB)
    print(f"\n{total / MB:.0f} MB in {len(list(stored.iterdir()))} files; best of {options.rounds} rounds")
    if not options.only_tar:
        writing(folder, stored, options.rounds, kind="stored", level="-0", method=zipfile.ZIP_STORED)
        writing(folder, deflated, options.rounds, kind="deflated", level="-1", method=zipfile.ZIP_DEFLATED)
        for kind in ("stored", "deflated"):
            reading(folder, folder / f"{kind}.zip", options.rounds, kind)
    for suffix in ("tar", "tar.gz"):
        reading_tar(folder, make_tar(folder / f"large.{suffix}", stored), options.rounds)


def compare_tiny(folder: Path, options: argparse.Namespace) -> None:
    tiny = folder / "tiny"
    tiny.mkdir()
    rng = random.Random(1)
    for number in range(options.tiny):
        (tiny / f"{number}.txt").write_bytes(rng.randbytes(50).hex().encode())
    print(f"\n{options.tiny} files of 100 bytes")
    if not options.only_tar:
        writing(
            folder, tiny, options.rounds, kind="tiny", level="-1", method=zipfile.ZIP_DEFLATED, tools=False
        )
        reading(folder, folder / "tiny.zip", options.rounds, "tiny")
    reading_tar(folder, make_tar(folder / "tiny.tar", tiny), options.rounds)


def extended_headers(folder: Path) -> None:
    """One hostile extended header: digits, which tarfile searches in quadratic time, and a large comment."""
    print("\nhostile extended headers in a TAR")
    for kib in (16, 32, 64):
        digits = folder / f"{kib} KiB of digits.tar"
        digits.write_bytes(tar_with_extended(b"9" * (kib * 1024)))
        reading_tar(folder, digits, 1, may_fail=True)
    comment = folder / "a comment of 256 MiB.tar"
    comment.write_bytes(tar_with_extended(b"268435473 comment=" + b"x" * (256 * 1024**2 - 2) + b"\n"))
    reading_tar(folder, comment, 1, may_fail=True)


def tar_with_extended(records: bytes) -> bytes:
    """A TAR of one empty file whose extended header has these bytes."""
    header = tarfile.TarInfo("header")
    header.type, header.size = tarfile.XHDTYPE, len(records)
    member = tarfile.TarInfo("member").tobuf(tarfile.USTAR_FORMAT)
    return header.tobuf(tarfile.USTAR_FORMAT) + records + bytes(-len(records) % 512) + member + bytes(1024)


def make_large(stored: Path, deflated: Path, total_bytes: int) -> int:
    """Photos of noise and rasters of noisy 16-bit slopes; both folders have the same files under different names."""
    stored.mkdir()
    deflated.mkdir()
    rng = np.random.default_rng(1)
    made = number = 0
    while made < total_bytes:
        if number % 5 < 3:
            content = rng.bytes(PHOTO_BYTES)
        else:
            steps = np.arange(RASTER_BYTES // 2, dtype=np.uint32) // 300
            content = (steps + rng.integers(0, 16, steps.size, dtype=np.uint32)).astype("<u2").tobytes()
        file = stored / f"{number:05}.jpg"
        file.write_bytes(content)
        os.link(file, deflated / f"{number:05}.tif")
        made, number = made + len(content), number + 1
    os.sync()
    return made


def writing(
    folder: Path,
    source: Path,
    rounds: int,
    *,
    kind: str,
    level: str,
    method: int,
    tools: bool = True,
) -> None:
    target = folder / f"{kind}.zip"
    files = sorted(str(file) for file in source.iterdir())
    ours = child("ours-write", source, target)
    candidates: dict[str, Sequence[str]] = {"ours, with SHA-256": ours}
    if tools:
        listed = folder / "files"
        listed.write_text("\n".join(files), encoding="utf-8")
        candidates["cat"] = ["sh", "-c", f"xargs -a {listed} cat > {target}.cat"]
        if zip_program := shutil.which("zip"):
            candidates[f"Info-ZIP zip {level}"] = [
                zip_program,
                "-qrj",
                level,
                f"{target}.zip",
                str(source),
            ]
    name = "zipfile-stored" if method == zipfile.ZIP_STORED else "zipfile-deflated"
    candidates["Python's zipfile" + ("" if method == zipfile.ZIP_STORED else ", zlib 1")] = child(
        name, source, Path(f"{target}.python")
    )
    figures = race(candidates, rounds, before=lambda: remove(folder, f"{kind}.zip*"))
    show(f"writing, {kind}", figures)
    sizes = {file.name: file.stat().st_size / MB for file in folder.glob(f"{kind}.zip*")}
    print("    " + ", ".join(f"{name} {size:.1f} MB" for name, size in sorted(sizes.items())))
    for extra in folder.glob(f"{kind}.zip.*"):
        extra.unlink()


def reading(folder: Path, archive: Path, rounds: int, kind: str) -> None:
    target = folder / "out"
    candidates: dict[str, Sequence[str]] = {"ours": child("ours-read", archive, target)}
    if unzip := shutil.which("unzip"):
        candidates["unzip"] = [unzip, "-qq", str(archive), "-d", str(target)]
    if bsdtar := shutil.which("bsdtar"):
        candidates["bsdtar"] = ["sh", "-c", f"mkdir {target} && {bsdtar} -xf {archive} -C {target}"]

    def clear() -> None:
        shutil.rmtree(target, ignore_errors=True)

    show(f"reading, {kind}", race(candidates, rounds, before=clear))
    clear()


def make_tar(target: Path, source: Path) -> Path:
    compressed = target.suffix == ".gz"
    with (
        tarfile.open(target, "w:gz", compresslevel=1) if compressed else tarfile.open(target, "w")
    ) as archive:
        for file in sorted(source.iterdir()):
            archive.add(file, file.name)
    return target


def reading_tar(folder: Path, archive: Path, rounds: int, *, may_fail: bool = False) -> None:
    target = folder / "out"
    names = ("ours-read-or-refuse", "tarfile-read-or-refuse") if may_fail else ("ours-read", "tarfile-read")
    candidates = {"ours": child(names[0], archive, target), "tarfile": child(names[1], archive, target)}

    def clear() -> None:
        shutil.rmtree(target, ignore_errors=True)

    show(f"reading {archive.name}", race(candidates, rounds, before=clear))
    clear()


def race(
    candidates: Mapping[str, Sequence[str]], rounds: int, *, before: Callable[[], None]
) -> dict[str, Figures]:
    """Each candidate once a round, in turns, so that a noisy minute hits all of them."""
    runs: dict[str, list[Figures]] = {name: [] for name in candidates}
    for _ in range(rounds):
        before()
        for name, command in candidates.items():
            if name in {"unzip", "bsdtar", "tarfile"}:
                before()  # they don't overwrite files extracted by another candidate
            os.sync()  # otherwise a candidate is slowed down by writeback of the ones before it
            runs[name].append(run(command))
    return {
        name: Figures(
            min(each.wall_s for each in measured),
            min(each.cpu_s for each in measured),
            max((each.peak_mib for each in measured if each.peak_mib), default=None),
        )
        for name, measured in runs.items()
    }


def run(command: Sequence[str]) -> Figures:
    """A program's figures; Python programs report their own, without startup and imports."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    with process.stdout or io.BytesIO() as output:
        report = output.read()
        _, status, usage = os.wait4(process.pid, 0)
    wall_s = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command[0]} failed with {process.returncode}")
    if report:
        return Figures(**json.loads(report))
    return Figures(wall_s, usage.ru_utime + usage.ru_stime, None)


def report(work: Callable[[Path, Path], Callable[[], None]], source: Path, target: Path) -> None:
    """Do the work and print its figures."""
    begin = work(source, target)
    started, started_cpu = time.perf_counter(), time.process_time()
    begin()
    wall_s, cpu_s = time.perf_counter() - started, time.process_time() - started_cpu
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak_kib = int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])
    print(json.dumps({"wall_s": wall_s, "cpu_s": cpu_s, "peak_mib": peak_kib / 1024}))


def show(title: str, figures: Mapping[str, Figures]) -> None:
    ours = next(iter(figures.values()))
    print(f"\n  {title}", flush=True)
    for name, each in figures.items():
        print(
            f"    {name:28} {each.wall_s:7.2f} s {each.cpu_s:7.2f} s CPU"
            f" {f'{each.peak_mib:.0f} MiB' if each.peak_mib else '':>8}"
            f"   × ours: {each.wall_s / ours.wall_s:5.2f} wall, {each.cpu_s / ours.cpu_s:5.2f} CPU"
        )


def remove(folder: Path, pattern: str) -> None:
    for file in folder.glob(pattern):
        file.unlink()


def child(name: str, source: Path, target: Path) -> list[str]:
    return [sys.executable, __file__, "--child", name, "--source", str(source), "--target", str(target)]


def write_ours(source: Path, target: Path) -> Callable[[], None]:
    from aerotask.archives.zip.writer import ZipSource, write_zip  # noqa: PLC0415  only in the child

    sources = [
        ZipSource(file.name, int(file.stat().st_mtime), file, file.stat().st_size)
        for file in sorted(source.iterdir())
    ]
    return lambda: void(write_zip(target, sources, threads=cores(), on_progress=lambda _: None))


def read_ours(archive: Path, target: Path, *, may_fail: bool = False) -> Callable[[], None]:
    from aerotask.archives.extract import extract  # noqa: PLC0415  only in the child
    from aerotask.archives.extract_request import ExtractRequest  # noqa: PLC0415  as above
    from aerotask.archives.space_budget import SpaceBudget  # noqa: PLC0415  as above
    from aerotask.domain.errors import InvalidInput  # noqa: PLC0415  as above
    from aerotask.sdk.limits import Limits  # noqa: PLC0415  as above

    request = ExtractRequest(
        archive=archive,
        path=archive.name,
        dest="",
        target_dir=target,
        budget=SpaceBudget(target.parent, None),
        limits=Limits(),
        is_wanted=lambda _: True,
        on_announced=lambda _: None,
        on_progress=lambda _: None,
        threads=cores(),
    )

    def run() -> None:
        with suppress(InvalidInput) if may_fail else nullcontext():
            extract(request)

    return run


def read_tarfile(archive: Path, target: Path, *, may_fail: bool = False) -> Callable[[], None]:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from benchmarks.peers.tarfile_stream import extract_tar  # noqa: PLC0415  only in the child

    from aerotask.archives import extract  # noqa: PLC0415  as above

    extract.extract_tar = extract_tar  # type: ignore[attr-defined]  # tarfile takes its place
    return read_ours(archive, target, may_fail=may_fail)


def write_zipfile(source: Path, target: Path, method: int) -> Callable[[], None]:
    return lambda: zipfile_with_hash(source, target, method)


def zipfile_with_hash(source: Path, target: Path, method: int) -> None:
    with zipfile.ZipFile(target, "w", method, compresslevel=1) as archive:
        for file in sorted(source.iterdir()):
            archive.write(file, file.name)
    with target.open("rb") as made:
        hashlib.file_digest(made, "sha256")


def void(_made: object) -> None:
    """Only the time matters."""


def cores() -> int:
    return len(os.sched_getaffinity(0))


CHILDREN: Mapping[str, Callable[[Path, Path], Callable[[], None]]] = {
    "ours-write": write_ours,
    "ours-read": read_ours,
    "ours-read-or-refuse": partial(read_ours, may_fail=True),
    "tarfile-read": read_tarfile,
    "tarfile-read-or-refuse": partial(read_tarfile, may_fail=True),
    "zipfile-stored": lambda source, target: write_zipfile(source, target, zipfile.ZIP_STORED),
    "zipfile-deflated": lambda source, target: write_zipfile(source, target, zipfile.ZIP_DEFLATED),
}


def through_the_stack(entries: int) -> None:
    """Many small files: extracted from a ZIP, listed, and packed again, by the product as it is."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from benchmarks.stacks import TASKS, bench, sign_in  # noqa: PLC0415  only here

    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for number in range(entries):
            archive.writestr(f"{number % 100:02}/{number}.txt", f"file {number}\n")
    print(f"\n{entries} small files through the stack")
    with bench() as server, server.stack(workers=1) as stack, sign_in(stack.address) as client:
        client.put("/orgs/bench/ds/bench/obj/in.zip", content=made.getvalue()).raise_for_status()

        def finished(body: Mapping[str, object]) -> float:
            started = time.perf_counter()
            task = client.post(TASKS, json=body).raise_for_status().json()["taskId"]
            print(f"    submitted {body['toolId']:16} {time.perf_counter() - started:6.2f} s")
            while (status := client.get(f"{TASKS}/{task}?wait=30").json())["state"] not in {
                "Succeeded",
                "Failed",
            }:
                pass
            assert status["state"] == "Succeeded", status["error"]
            return time.perf_counter() - started

        extract = {"toolId": "archive-extract", "params": {"sourcePath": "in.zip", "deleteArchive": True}}
        print(f"    archive-extract          {finished(extract):8.2f} s")
        print(f"    bulk-download            {finished({'toolId': 'bulk-download'}):8.2f} s")
        started = time.perf_counter()
        listed = client.get("/orgs/bench/ds/bench/list?recursive=true").raise_for_status().json()
        print(f"    list of {len(listed)} entries     {time.perf_counter() - started:8.2f} s")
        started = time.perf_counter()
        got = client.get("/orgs/bench/ds/bench/download?path=00&path=01").raise_for_status()
        print(f"    download of {len(got.content)} bytes    {time.perf_counter() - started:8.2f} s")


if __name__ == "__main__":
    main()
