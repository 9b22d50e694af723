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
from tests.support.clocks import LIBFAKETIME, clock_shifted_by, start_shifted_worker
from tests.support.processes import dismiss, running
from tests.support.world import World, eventually

OLDER_THAN_GRACE_S = 5400
"""The grace time is an hour by default."""


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
        worker = start_shifted_worker(world, clock_shifted_by(shift_s, tmp_path, all_clocks=all_clocks))
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
