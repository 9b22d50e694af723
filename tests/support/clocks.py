"""Workers whose clock is off."""

from __future__ import annotations

import os
from pathlib import Path

from tests.support.processes import Process
from tests.support.world import World

SHIFTED_CLOCK = """
import time
real = time.time
time.time = lambda: real() + {shift_s}
"""
LIBFAKETIME = os.environ.get("LIBFAKETIME") or next(
    Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None
)


def clock_shifted_by(shift_s: int, folder: Path, *, all_clocks: bool) -> dict[str, str]:
    """The environment of a process whose clock is off: Python's, or that of all its code with libfaketime."""
    if all_clocks:
        return {
            "LD_PRELOAD": str(LIBFAKETIME),
            "FAKETIME": f"{shift_s:+d}",
            "NO_FAKE_STAT": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(SHIFTED_CLOCK.format(shift_s=shift_s), encoding="utf-8")
    return {"PYTHONPATH": str(folder)}


def start_shifted_worker(world: World, changes: dict[str, str]) -> Process:
    """Starts one more worker, with these environment variables."""
    before = world.stack.environment
    paths = [changes.get("PYTHONPATH", ""), before["PYTHONPATH"]]
    world.stack.environment = {**before, **changes, "PYTHONPATH": os.pathsep.join(paths)}
    try:
        return world.stack.start_worker()
    finally:
        world.stack.environment = before
