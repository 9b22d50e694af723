"""Tools that die while they change their dataset change nothing."""

import os
import random
import signal
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import psutil
import pytest
from tests.archives.archive_files import zipped
from tests.conftest import StackFactory
from tests.support.processes import await_attempt, frozen, kill, running, worker_of
from tests.support.world import ENDED, Dataset, World, eventually


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


def test_killed_at_entry_five_of_ten_and_retried(world: World, tmp_path: Path) -> None:
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


def begin_extracting(world: World, *, members: int) -> tuple[Dataset, str, bytes]:
    """A real extraction over an existing entry, stopped while it writes its members."""
    dataset = world.dataset()
    dataset.upload("out/0.bin", b"the old content", indexed=False)
    content = os.urandom(4 * 1024 * 1024)
    archive = zipped({f"{number}.bin": content for number in range(members)}, zipfile.ZIP_STORED)
    dataset.upload("in.zip", archive, indexed=False)
    params = {"sourcePath": "in.zip", "destPath": "out", "overwrite": True}
    return dataset, dataset.submit("archive-extract", params), content


def work_of(world: World, task_id: str) -> list[Path]:
    """The files that attempts at the task have extracted so far."""
    storage = Path(world.stack.environment["AEROTASK_STORAGE_URL"].removeprefix("file://"))
    return [path for path in (storage / "work").glob(f"{task_id}-*/out/extracted/*/*") if path.is_file()]


def child_of(world: World, task_id: str) -> int | None:
    """The process that works in the task's work folder."""
    for worker in world.stack.workers:
        with suppress(psutil.Error):
            for process in psutil.Process(worker.pid).children(recursive=True):
                with suppress(psutil.Error):
                    if task_id in process.cwd():
                        return process.pid
    return None


def is_at(world: World, dataset: Dataset, task_id: str, files: int) -> bool:
    """Whether that many files have been extracted, or the task has ended."""
    return len(work_of(world, task_id)) >= files or dataset.status(task_id)["state"] in ENDED


@pytest.fixture(scope="module")
def pausing(make_stack: StackFactory) -> Iterator[World]:
    """A stack with one worker, whose extractions freeze after each member."""
    with make_stack(workers=1, failpoint="member-extracted:stop") as world:
        yield world


def await_frozen(world: World, task_id: str, *, former: int | None = None) -> int:
    """The frozen child that extracts for the task, other than the former one."""

    def is_frozen() -> bool:
        pid = child_of(world, task_id)
        return pid not in {None, former} and frozen(pid)

    eventually(is_frozen)
    pid = child_of(world, task_id)
    assert pid is not None
    return pid


def wake(pid: int) -> None:
    os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("member", [1, 5, 10])
def test_an_extraction_killed_at_a_member_changes_nothing_and_is_done_again(
    pausing: World, member: int
) -> None:
    dataset, task_id, content = begin_extracting(pausing, members=10)
    old = f"{dataset.address}/obj/out/0.bin"

    for _ in range(member - 1):
        wake(await_frozen(pausing, task_id))
    victim = await_frozen(pausing, task_id)
    assert len(work_of(pausing, task_id)) >= member
    assert dataset.paths() == ["in.zip", "out", "out/0.bin"]
    os.kill(victim, signal.SIGKILL)

    for _ in range(9):
        wake(again := await_frozen(pausing, task_id, former=victim))
    await_frozen(pausing, task_id, former=victim)
    assert (dataset.status(task_id)["attempt"], dataset.status(task_id)["state"]) == (2, "Processing")
    assert dataset.client.get(old).content == b"the old content"
    assert dataset.paths() == ["in.zip", "out", "out/0.bin"]
    wake(again)

    task = dataset.wait(task_id)
    assert (task["state"], task["attempt"]) == ("Succeeded", 2)
    assert dataset.paths() == ["in.zip", "out", *sorted(f"out/{number}.bin" for number in range(10))]
    for number in (0, 5, 9):
        assert dataset.client.get(f"{dataset.address}/obj/out/{number}.bin").content == content


def test_an_extraction_cancelled_at_any_moment_changes_nothing(world: World, rng: random.Random) -> None:
    for _ in range(5):
        dataset, task_id, _ = begin_extracting(world, members=10)
        wanted = rng.randrange(11)
        eventually(partial(is_at, world, dataset, task_id, wanted))
        dataset.client.delete(f"{dataset.address}/tasks/{task_id}")
        history = [step["to"] for step in dataset.wait(task_id)["history"]]
        old = dataset.client.get(f"{dataset.address}/obj/out/0.bin").content == b"the old content"
        assert old == ("Succeeded" not in history)
        assert len(dataset.paths()) == (3 if old else 12)
