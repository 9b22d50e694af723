"""Backup of a stack under load, and its restoration elsewhere: every file whole, every task ended."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import QUICK, StackFactory
from tests.guarantees.invariants import assert_upheld, sql
from tests.support.world import Dataset, World, eventually

from aerotask.stack.folder import OwnedFolder
from aerotask.stack.stack import running_stack

ROUNDS_BEFORE = 5


def aerotask(*arguments: str, environment: dict[str, str]) -> str:
    """The output of a command that must succeed."""
    command = [sys.executable, "-m", "aerotask", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=150)
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def load(dataset: Dataset) -> Iterator[None]:
    """Replaces and removes files and runs tasks during the block, and for a while before it."""
    over, rounds = threading.Event(), threading.Semaphore(0)

    def change() -> None:
        number = 0
        while not over.is_set():
            number += 1
            for name in ("a", "b", "c"):
                dataset.upload(f"{name}.bin", os.urandom(100_000), indexed=False)
            dataset.try_submit("bulk-download", {}, force=True)
            dataset.try_submit("nothing", {"label": str(number)})
            dataset.client.delete(f"{dataset.address}/obj/b.bin")
            rounds.release()

    changing = threading.Thread(target=change)
    changing.start()
    for _ in range(ROUNDS_BEFORE):
        rounds.acquire()
    try:
        yield
    finally:
        over.set()
        changing.join()


def all_ended(world: World) -> bool:
    return not sql(world, "SELECT 1 FROM tasks WHERE state NOT IN ('Succeeded', 'Failed', 'Deleted') LIMIT 1")


def test_a_stack_under_load_is_backed_up_and_restored_elsewhere(
    make_stack: StackFactory, plugins: Path, tmp_path: Path
) -> None:
    with make_stack(workers=2) as world:
        dataset = world.dataset()
        dataset.upload("kept.bin", b"kept" * 1000, indexed=False)
        environment = {**os.environ, **world.stack.environment}
        with load(dataset):
            said = aerotask("backup", str(tmp_path / "backup.tar"), environment=environment)
        assert "holds the secret key" in said

    elsewhere = tmp_path / "elsewhere"
    ours = {name: value for name, value in os.environ.items() if not name.startswith("AEROTASK_")}
    aerotask("restore", str(tmp_path / "backup.tar"), "--data", str(elsewhere), environment=ours)
    settings = {**QUICK, "PYTHONPATH": str(plugins)}
    del settings["AEROTASK_SECRET_KEY"]
    with OwnedFolder(elsewhere) as folder:
        try:
            with running_stack(folder, workers=2, settings=settings) as stack, World(stack) as restored:
                here = dataset.seen_by(restored.client("admin"))
                kept = here.client.get(f"{here.address}/obj/kept.bin").raise_for_status()
                assert kept.content == b"kept" * 1000
                eventually(lambda: all_ended(restored))
                assert here.run("nothing", {"label": "here"})["state"] == "Succeeded"
                assert_upheld(restored)
        finally:
            folder.discard()
