"""Full storage: uploads and tasks are refused or fail with a clear error and leave nothing, and deleting makes room."""

import os
import subprocess
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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

        assert (answer.status_code, answer.json()["code"]) == (507, "disk-full")
        assert int(answer.headers["retry-after"]) >= 1
        assert dataset.paths() == ["a.txt"]
        assert list((small_disk / "partial").iterdir()) == []
        assert_only_the_upload_is_there(world)
        dataset.upload("b.bin", os.urandom(MIB))


def test_deleting_files_makes_room_on_a_full_storage_at_once(
    make_stack: StackFactory, small_disk: Path
) -> None:
    with make_stack(workers=1, storage_url=small_disk.as_uri()) as world:
        dataset = world.dataset()
        dataset.upload("a.bin", os.urandom(MIB))
        uploads, tus = f"{dataset.address}/uploads", {"Tus-Resumable": "1.0.0"}
        content = os.urandom(MIB // 2)
        announcement = {"Upload-Length": str(len(content)), "Upload-Metadata": "path " + base64("b.bin")}
        begun = world.admin.post(uploads, headers=tus | announcement).headers["Location"]
        part = tus | {"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}

        with filled(small_disk):
            for answer in (
                world.admin.put(f"{dataset.address}/obj/c.bin", content=b"c"),
                world.admin.post(uploads, headers=tus | announcement),
                world.admin.patch(begun, headers=part, content=content),
            ):
                assert (answer.status_code, answer.json()["code"]) == (507, "disk-full")
                assert int(answer.headers["retry-after"]) >= 1
            eventually(lambda: storage_state(world) == (200, "full"), timeout_s=10)
            refused = dataset.try_submit("bulky", {"estimatedBytes": MIB})
            assert (refused.status_code, refused.json()["code"]) == (507, "disk-full")

            world.admin.delete(f"{dataset.address}/obj/a.bin").raise_for_status()
            eventually(lambda: stored_files(world) == {}, timeout_s=10)
            eventually(lambda: storage_state(world) == (200, "ok"), timeout_s=10)

            assert world.admin.patch(begun, headers=part, content=content).status_code == 204
            assert world.admin.get(f"{dataset.address}/obj/b.bin").content == content


def test_a_library_that_hides_a_full_disk_does_not_hide_its_code(
    make_stack: StackFactory, small_disk: Path
) -> None:
    with make_stack(workers=1, storage_url=small_disk.as_uri()) as world:
        task = world.dataset().run("fill-disk", {"silently": True})
        assert (task["state"], task["error"]["code"]) == ("Failed", "disk-full")


@contextmanager
def filled(folder: Path) -> Iterator[None]:
    """Another's file fills the disk."""
    file = folder / "of-another"
    with file.open("wb", buffering=0) as written, suppress(OSError):
        while True:
            written.write(bytes(4096))
    yield
    file.unlink()


def storage_state(world: World) -> tuple[int, str]:
    ready = world.admin.get("/readyz")
    return ready.status_code, ready.json()["storage"]


def base64(text: str) -> str:
    return b64encode(text.encode()).decode()


def assert_only_the_upload_is_there(world: World) -> None:
    assert len(stored_files(world)) == 1
    eventually(lambda: work_folders(world) == [], timeout_s=5)
