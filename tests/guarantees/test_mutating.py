"""A tool that changes its dataset and dies in the middle has changed nothing."""

import os
import signal
from pathlib import Path

from tests.support.processes import await_attempt, kill, running, worker_of
from tests.support.world import Dataset, World, eventually


def begin_rewriting(world: World, go: Path) -> tuple[Dataset, str]:
    """A run that writes ten entries, one of them over another, and waits at entry five."""
    dataset = world.dataset()
    dataset.upload("folder/0.txt", b"the old content")
    task_id = dataset.submit("writer", {"folder": "folder", "count": 10, "until": str(go)})
    eventually(lambda: len(running(go)) == 1)
    return dataset, task_id


def assert_unchanged(dataset: Dataset) -> None:
    assert dataset.paths() == ["folder", "folder/0.txt"]
    assert dataset.client.get(f"{dataset.address}/obj/folder/0.txt").content == b"the old content"


def assert_changed(dataset: Dataset) -> None:
    assert dataset.paths() == ["folder", *(f"folder/{number}.txt" for number in range(10))]
    assert dataset.client.get(f"{dataset.address}/obj/folder/0.txt").content == b"file 0\n"


def kill_attempt(go: Path, *, number: int) -> None:
    os.kill(await_attempt(go, number), signal.SIGKILL)


def test_killed_at_entry_five_of_ten_in_every_attempt(world: World, tmp_path: Path) -> None:
    go = tmp_path / "go"
    dataset, task_id = begin_rewriting(world, go)

    kill_attempt(go, number=1)
    kill_attempt(go, number=2)

    task = dataset.wait(task_id)
    assert (task["state"], task["error"]["code"], task["outputs"]) == ("Failed", "tool-crashed", [])
    assert_unchanged(dataset)


def test_killed_at_entry_five_of_ten_and_tried_again(world: World, tmp_path: Path) -> None:
    go = tmp_path / "go"
    dataset, task_id = begin_rewriting(world, go)

    kill_attempt(go, number=1)
    eventually(lambda: len(running(go)) == 2)
    assert_unchanged(dataset)
    go.touch()

    assert dataset.wait(task_id)["attempt"] == 2
    assert_changed(dataset)


def test_the_worker_killed_at_entry_five_of_ten(world: World, tmp_path: Path) -> None:
    go = tmp_path / "go"
    dataset, task_id = begin_rewriting(world, go)

    kill(victim := worker_of(world, running(go)[0]))
    world.stack.workers.remove(victim)
    world.stack.start_worker()
    eventually(lambda: len(running(go)) == 2)
    assert_unchanged(dataset)
    go.touch()

    assert dataset.wait(task_id)["attempt"] == 2
    assert_changed(dataset)
    world.stack.await_workers()
