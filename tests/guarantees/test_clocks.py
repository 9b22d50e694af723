"""A worker whose clock is hours off removes nothing that its neighbours use, and still removes what they left."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.guarantees.invariants import settings_of
from tests.support.processes import Process, dismiss, running
from tests.support.world import World, eventually

SHIFTED_CLOCK = """
import time
real = time.time
time.time = lambda: real() + {shift_s}
"""
LIBFAKETIME = os.environ.get("LIBFAKETIME") or next(
    Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None
)
OLDER_THAN_GRACE_S = 5400
"""The grace time is an hour by default."""


def clock_shifted_by(shift_s: int, folder: Path, *, all_clocks: bool) -> dict[str, str]:
    """The environment of a process whose clock is off: Python's, or that of all its code with libfaketime."""
    if all_clocks:
        return {
            "LD_PRELOAD": str(LIBFAKETIME),
            "FAKETIME": f"{shift_s:+d}",
            "NO_FAKE_STAT": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
    (folder / "sitecustomize.py").write_text(SHIFTED_CLOCK.format(shift_s=shift_s), encoding="utf-8")
    return {"PYTHONPATH": str(folder)}


def start_worker(world: World, changes: dict[str, str]) -> Process:
    """Starts one more worker, with these environment variables."""
    before = world.stack.environment
    paths = [changes.get("PYTHONPATH", ""), before["PYTHONPATH"]]
    world.stack.environment = {**before, **changes, "PYTHONPATH": os.pathsep.join(paths)}
    try:
        return world.stack.start_worker()
    finally:
        world.stack.environment = before


@pytest.mark.parametrize("shift_s", [7200, -7200])
@pytest.mark.parametrize(
    "all_clocks",
    [
        pytest.param(False, id="python"),
        pytest.param(
            True, id="libfaketime", marks=pytest.mark.skipif(not LIBFAKETIME, reason="needs libfaketime")
        ),
    ],
)
def test_a_shifted_clock_removes_nothing_that_is_in_use(
    world: World, tmp_path: Path, *, shift_s: int, all_clocks: bool
) -> None:
    dataset, go, more = world.dataset(), tmp_path / "go", threading.Event()
    storage = settings_of(world).storage_folder
    task_id = dataset.submit("writer", {"folder": "out", "count": 2, "until": str(go)})
    eventually(lambda: len(running(go)) == 1)

    def slow_body() -> Iterator[bytes]:
        yield b"first" * 500_000
        more.wait(60)
        yield b"last"

    abandoned = storage / "work" / "index-01890000-0000-7000-8000-000000000000"
    abandoned.mkdir()
    then = time.time() - OLDER_THAN_GRACE_S
    os.utime(abandoned, (then, then))
    with ThreadPoolExecutor(1) as uploading:
        upload = uploading.submit(
            dataset.client.put, f"{dataset.address}/obj/slow.bin", content=slow_body(), timeout=90
        )
        eventually(lambda: any(file.stat().st_size for file in (storage / "partial").iterdir()))
        (partial,) = (file for file in (storage / "partial").iterdir() if file.stat().st_size)
        worker = start_worker(world, clock_shifted_by(shift_s, tmp_path, all_clocks=all_clocks))
        # Its first round of maintenance removes what is really abandoned.
        eventually(lambda: not abandoned.exists())
        assert partial.exists()
        more.set()
        assert upload.result().status_code == 201
    assert (storage / "work" / f"{task_id}-1").is_dir()
    dismiss(world, worker)
    go.touch()
    task = dataset.wait(task_id)
    assert (task["state"], task["attempt"]) == ("Succeeded", 1)
    assert dataset.client.get(f"{dataset.address}/obj/slow.bin").content == b"first" * 500_000 + b"last"
    assert dataset.paths() == ["out", "out/0.txt", "out/1.txt", "slow.bin"]
