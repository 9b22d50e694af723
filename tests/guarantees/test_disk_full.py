"""Full storage: the task fails with a clear error and leaves nothing, and the next task succeeds."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import StackFactory
from tests.guarantees.invariants import stored_files, work_folders
from tests.support.world import World, eventually

MIB = 1024 * 1024


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command here")
    if done.returncode:
        pytest.skip(f"this user may not mount a tmpfs: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_storage_fails_the_task_but_not_the_next(make_stack: StackFactory, small_disk: Path) -> None:
    with make_stack(workers=2, storage_url=small_disk.as_uri()) as world:
        dataset = world.dataset()
        dataset.upload("a.txt", b"a")

        task = dataset.run("fill-disk")

        assert (task["state"], task["error"]["code"]) == ("Failed", "disk-full")
        assert task["error"]["retryable"] is True
        assert_only_the_upload_is_there(world)
        made = dataset.run("bulky", {"estimatedBytes": MIB})
        assert made["state"] == "Succeeded"
        assert len(world.admin.get(made["artifact"]["resultUrl"]).content) == MIB


def test_an_upload_to_a_full_storage_is_rejected_and_leaves_nothing(
    make_stack: StackFactory, small_disk: Path
) -> None:
    with make_stack(workers=1, storage_url=small_disk.as_uri()) as world:
        dataset = world.dataset()
        dataset.upload("a.txt", b"a")

        answer = world.admin.put(f"{dataset.address}/obj/big.bin", content=os.urandom(5 * MIB))

        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
        assert dataset.paths() == ["a.txt"]
        assert list((small_disk / "partial").iterdir()) == []
        assert_only_the_upload_is_there(world)
        dataset.upload("b.bin", os.urandom(MIB))


def assert_only_the_upload_is_there(world: World) -> None:
    assert len(stored_files(world)) == 1
    eventually(lambda: work_folders(world) == [], timeout_s=5)
