"""Failpoints with every applicable action: the task ends once, completely, and leaves nothing behind.

Those of the sweeps are in `test_expiry.py`.
"""

import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from tests.conftest import StackFactory
from tests.guarantees.invariants import assert_upheld, stored_files
from tests.raster.rasters import write_raster
from tests.support.processes import add_worker, dismiss, frozen, restart_api, running
from tests.support.world import Dataset, World, eventually

from aerotask.db.engine import STATEMENT_TIMEOUT_S

pytestmark = pytest.mark.xdist_group("failpoints")

AT_THE_WORKER = ["task-claimed", "child-started", "output-written", "blob-synced", "blob-renamed"]


@pytest.fixture(scope="module")
def ailing(make_stack: StackFactory) -> Iterator[World]:
    """A stack with one healthy worker of one slot, and short leases and grace times."""
    with make_stack(workers=1, worker_slots="1", lease_ttl_s="2", blob_grace_s="5") as world:
        yield world


@pytest.fixture
def dataset(ailing: World) -> Iterator[Dataset]:
    """A dataset; after the test, the stack is healthy again and its invariants are checked."""
    yield ailing.dataset()
    assert_upheld(ailing)


@pytest.fixture
def sound_worker_busy(dataset: Dataset, tmp_path: Path) -> Iterator[Path]:
    """Keeps the healthy worker busy until this file exists, so that another claims the next task."""
    free = tmp_path / "free"
    blocker = dataset.submit("patient", {"until": str(free), "label": "keeps the sound worker busy"})
    eventually(lambda: len(running(free)) == 1)
    yield free
    free.touch()
    dataset.wait(blocker)


def submit_victim(dataset: Dataset) -> str:
    """A task that writes log lines and an artifact."""
    return dataset.submit("patient", {"lines": 5, "publish": "the victim's"})


def assert_ended_well(dataset: Dataset, task_id: str, *, attempts: int) -> None:
    # A process that froze during a transaction may lock the task's row until Postgres ends its session.
    task = dataset.wait(task_id, timeout_s=STATEMENT_TIMEOUT_S + 60)
    assert (task["state"], task["attempt"]) == ("Succeeded", attempts)
    assert dataset.client.get(task["artifact"]["resultUrl"]).content == b"the victim's"
    assert dataset.log(task_id).count("line 4") >= 1


@pytest.mark.parametrize("point", AT_THE_WORKER)
def test_a_worker_is_killed_at(ailing: World, dataset: Dataset, sound_worker_busy: Path, point: str) -> None:
    worker = add_worker(ailing, failpoint=f"{point}:kill")
    task_id = submit_victim(dataset)

    assert worker.wait(60) == -signal.SIGKILL
    ailing.stack.workers.remove(worker)
    sound_worker_busy.touch()

    assert_ended_well(dataset, task_id, attempts=2)


@pytest.mark.parametrize("point", AT_THE_WORKER)
def test_a_worker_freezes_past_its_lease_at(
    ailing: World, dataset: Dataset, sound_worker_busy: Path, point: str
) -> None:
    worker = add_worker(ailing, failpoint=f"{point}:stop")
    task_id = submit_victim(dataset)
    eventually(lambda: frozen(worker.pid))
    sound_worker_busy.touch()

    assert_ended_well(dataset, task_id, attempts=2)
    before = dataset.status(task_id)
    dismiss(ailing, worker)  # it wakes, finds that its lease is lost, and stops

    assert dataset.status(task_id) == before


@pytest.mark.parametrize("point", ["child-started", "output-written", "blob-synced", "blob-renamed"])
def test_the_storage_fails_a_worker_at(
    ailing: World, dataset: Dataset, sound_worker_busy: Path, point: str
) -> None:
    worker = add_worker(ailing, failpoint=f"{point}:error@1")
    task = dataset.wait(submit_victim(dataset))

    assert (task["state"], task["attempt"], task["error"]["code"]) == ("Failed", 1, "storage-error")
    assert task["error"]["retryable"] is True
    assert_ended_well(dataset, submit_victim(dataset), attempts=1)
    dismiss(ailing, worker)


def test_a_claim_whose_answer_was_lost_is_not_kept_alive(
    ailing: World, dataset: Dataset, sound_worker_busy: Path, tmp_path: Path
) -> None:
    worker = add_worker(ailing, failpoint="task-claimed:error@1", worker_slots="2")
    lost = submit_victim(dataset)
    eventually(lambda: dataset.status(lost)["state"] == "Processing")
    # With another task, the worker renews its leases.
    held = dataset.submit("patient", {"until": str(tmp_path / "held")})
    eventually(lambda: len(running(tmp_path / "held")) == 1)

    assert_ended_well(dataset, lost, attempts=2)

    (tmp_path / "held").touch()
    assert dataset.wait(held)["attempt"] == 1
    dismiss(ailing, worker)


def submit_into_failure(dataset: Dataset, label: str) -> httpx.Response | None:
    """Submit a task; None if the API died meanwhile."""
    try:
        return dataset.try_submit("nothing", {"label": label})
    except httpx.TransportError:
        return None


@pytest.mark.parametrize("point", ["submit-committed", "hint-sent"])
def test_the_api_is_killed_at(ailing: World, dataset: Dataset, point: str) -> None:
    api = restart_api(ailing, failpoint=f"{point}:kill")

    submit_into_failure(dataset, point)

    assert api.wait(60) == -signal.SIGKILL
    restart_api(ailing)
    [task] = dataset.client.get(f"{dataset.address}/tasks").raise_for_status().json()
    ended = dataset.wait(task["taskId"])
    assert (ended["state"], ended["attempt"]) == ("Succeeded", 1)
    # A repeated submit returns the existing task.
    assert dataset.try_submit("nothing", {"label": point}).json()["taskId"] == task["taskId"]


def test_an_api_that_fails_after_the_commit_has_still_created_the_task(
    ailing: World, dataset: Dataset
) -> None:
    restart_api(ailing, failpoint="submit-committed:error@1")

    failed = submit_into_failure(dataset, "x")
    again = submit_into_failure(dataset, "x")

    assert failed is not None
    assert (failed.status_code, failed.headers["retry-after"]) == (503, "5")
    assert again is not None
    assert (again.status_code, again.json()["deduplicated"]) == (200, True)
    assert dataset.wait(again.json()["taskId"])["state"] == "Succeeded"
    restart_api(ailing)


def test_wakeups_continue_after_one_has_failed(
    ailing: World, dataset: Dataset, sound_worker_busy: Path
) -> None:
    restart_api(ailing, failpoint="hint-sent:error@1")
    first, second = (dataset.submit("nothing", {"label": label}) for label in ("first", "second"))

    eventually(lambda: dataset.status(second)["state"] == "Enqueued", timeout_s=10)

    sound_worker_busy.touch()
    assert {dataset.wait(task)["state"] for task in (first, second)} == {"Succeeded"}
    restart_api(ailing)


@pytest.mark.parametrize("point", ["blob-synced", "blob-renamed"])
def test_the_api_is_killed_in_mid_upload_at(ailing: World, dataset: Dataset, point: str) -> None:
    dataset.upload("notes.txt", b"the old text")
    before = stored_files(ailing)
    api = restart_api(ailing, failpoint=f"{point}:kill")

    with pytest.raises(httpx.TransportError):
        dataset.upload("notes.txt", b"the new text")

    assert api.wait(60) == -signal.SIGKILL
    restart_api(ailing)
    assert dataset.client.get(f"{dataset.address}/obj/notes.txt").content == b"the old text"
    eventually(lambda: set(stored_files(ailing)) <= set(before), timeout_s=20)
    dataset.upload("notes.txt", b"the new text")
    assert dataset.client.get(f"{dataset.address}/obj/notes.txt").content == b"the new text"


@pytest.mark.parametrize("point", ["output-written", "blob-renamed"])
def test_a_merge_over_an_entry_is_killed_at(
    ailing: World, dataset: Dataset, sound_worker_busy: Path, tmp_path: Path, point: str
) -> None:
    for name in ("red", "nir"):
        band = write_raster(tmp_path / f"{name}.tif", np.full((1, 60, 80), 7, np.uint16))
        dataset.upload(f"{name}.tif", band, indexed=False)
    dataset.upload("merged.tif", b"the old content", indexed=False)
    merged = f"{dataset.address}/obj/merged.tif"

    worker = add_worker(ailing, failpoint=f"{point}:kill")
    params = {"paths": ["red.tif", "nir.tif"], "outputPath": "merged.tif", "overwrite": True}
    task_id = dataset.submit("merge-multispectral", params)
    assert worker.wait(60) == -signal.SIGKILL
    ailing.stack.workers.remove(worker)

    assert dataset.client.get(merged).content == b"the old content"
    sound_worker_busy.touch()
    task = dataset.wait(task_id)
    assert (task["state"], task["attempt"]) == ("Succeeded", 2)
    assert dataset.client.get(merged).content.startswith(b"II*\0")
