"""Processes of a stack, and further ones with failpoints or other settings."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
from tests.support.world import World, eventually

Process = subprocess.Popen[bytes]


def running(until: Path) -> list[int]:
    """The children that wait for the file `until`."""
    return [int(note.suffix[1:]) for note in until.parent.glob(f"{until.name}.running.*")]


def await_attempt(until: Path, number: int) -> int:
    """The child of that attempt, once it waits for the file and all earlier ones have ended."""

    def alone() -> bool:
        return len(running(until)) == number and len(alive()) == 1

    def alive() -> list[int]:
        return [pid for pid in running(until) if not gone(pid)]

    eventually(alone)
    return alive()[0]


def gone(pid: int) -> bool:
    """Whether the process has ended."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def frozen(pid: int) -> bool:
    """Whether the process has been stopped by SIGSTOP."""
    return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)


def worker_of(world: World, child: int) -> Process:
    """The worker whose fork server started the child."""
    pid = psutil.Process(psutil.Process(child).ppid()).ppid()
    return next(worker for worker in world.stack.workers if worker.pid == pid)


@contextmanager
def other_environment(world: World, **changes: str) -> Iterator[None]:
    """Processes started in the block have these settings and this failpoint in addition to the stack's own."""
    before = world.stack.environment
    world.stack.environment = {
        **before,
        **{f"AEROTASK_{key.upper()}": value for key, value in changes.items()},
    }
    try:
        yield
    finally:
        world.stack.environment = before


def add_worker(world: World, *, failpoint: str = "", **settings: str) -> Process:
    """Start a further worker, with a failpoint or other settings; returns when it is ready."""
    with other_environment(world, **settings, **({"failpoint": failpoint} if failpoint else {})):
        worker = world.stack.start_worker()
    world.stack.await_workers()
    return worker


def restart_api(world: World, *, failpoint: str = "") -> Process:
    """Start the API again at the same address; the former one is killed if it still runs."""
    former = world.stack.api
    assert former is not None
    kill(former)
    with other_environment(world, **({"failpoint": failpoint} if failpoint else {})):
        world.stack.start_api()
    world.stack.await_api()
    assert world.stack.api is not None
    return world.stack.api


def kill(process: Process) -> None:
    """Send SIGKILL, also to a frozen process."""
    process.kill()
    process.wait()


def dismiss(world: World, worker: Process) -> None:
    """Remove a worker from the stack, whether it is dead, frozen or running."""
    if worker.poll() is None:
        worker.send_signal(signal.SIGCONT)
        worker.terminate()
    worker.wait(30)
    world.stack.workers.remove(worker)


def seconds_until(moment: str, *, since: float) -> float:
    """Seconds from `since` (Unix time) to an event in a task's history."""
    return datetime.fromisoformat(moment).timestamp() - since


def claims(task: dict[str, Any]) -> list[dict[str, Any]]:
    """Time and worker of a task's claim, from its status."""
    return [event for event in task["history"] if event["to"] == "Processing"]


def hold_for(duration_s: float) -> None:
    """Let a state last, such as an outage. Not for waiting for a condition."""
    deadline = time.monotonic() + duration_s
    eventually(lambda: time.monotonic() >= deadline, timeout_s=duration_s + 60)
