"""The processes of a stack: which they are, and others beside them that are armed or set differently."""

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
    """The children that have begun to wait for the file `until`."""
    return [int(note.suffix[1:]) for note in until.parent.glob(f"{until.name}.running.*")]


def await_attempt(until: Path, number: int) -> int:
    """The child of the attempt of that number, when it waits for the file and all before it are gone."""

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
    """What the block starts has these settings, or this failpoint, besides the stack's own."""
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
    """One more worker, armed or set differently; returns when it is ready."""
    with other_environment(world, **settings, **({"failpoint": failpoint} if failpoint else {})):
        worker = world.stack.start_worker()
    world.stack.await_workers()
    return worker


def restart_api(world: World, *, failpoint: str = "") -> Process:
    """The API anew at the same address; the former one is killed if it still runs."""
    former = world.stack.api
    assert former is not None
    kill(former)
    with other_environment(world, **({"failpoint": failpoint} if failpoint else {})):
        world.stack.start_api()
    world.stack.await_api()
    assert world.stack.api is not None
    return world.stack.api


def kill(process: Process) -> None:
    """SIGKILL, also to one that is frozen."""
    process.kill()
    process.wait()


def dismiss(world: World, worker: Process) -> None:
    """Take a worker out of the stack, however it is: dead, frozen or well."""
    if worker.poll() is None:
        worker.send_signal(signal.SIGCONT)
        worker.terminate()
    worker.wait(30)
    world.stack.workers.remove(worker)


def seconds_until(moment: str, *, since: float) -> float:
    """How long after `since` (Unix time) something happened, according to a task's history."""
    return datetime.fromisoformat(moment).timestamp() - since


def claims(task: dict[str, Any]) -> list[dict[str, Any]]:
    """When and by whom a task was taken, from its status."""
    return [event for event in task["history"] if event["to"] == "Processing"]


def hold_for(duration_s: float) -> None:
    """Let a state last: an outage, or the moment of a kill. Not for waiting until something is so."""
    deadline = time.monotonic() + duration_s
    eventually(lambda: time.monotonic() >= deadline, timeout_s=duration_s + 60)
