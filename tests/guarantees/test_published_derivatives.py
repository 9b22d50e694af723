"""Derivatives are usable as soon as each is ready, whatever happens to the build afterwards."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import StackFactory
from tests.guarantees.invariants import assert_upheld, unnamed_files, work_folders
from tests.metadata.vectors import write_points
from tests.support.processes import add_worker, dismiss, frozen, kill, running
from tests.support.world import Dataset, World, eventually

pytestmark = pytest.mark.xdist_group("failpoints")


@pytest.fixture(scope="module")
def ailing(make_stack: StackFactory) -> Iterator[World]:
    """A stack with one healthy worker of one slot, and short leases and grace times."""
    with make_stack(workers=1, worker_slots="1", lease_ttl_s="2", blob_grace_s="5") as world:
        yield world


@pytest.fixture
def dataset(ailing: World, tmp_path: Path) -> Iterator[Dataset]:
    """A dataset with a vector file, of which a build makes vector tiles first and then a GeoPackage."""
    made = ailing.dataset()
    made.upload("points.geojson", write_points(tmp_path / "points.geojson"))
    yield made
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


def kinds(dataset: Dataset) -> dict[str, str]:
    """The hashes of the derivatives, by kind; each can be downloaded whole."""
    listed = dataset.client.get(f"{dataset.address}/build/points.geojson").raise_for_status().json()
    for each in listed:
        content = dataset.client.get(each["url"]).raise_for_status().content
        assert hashlib.sha256(content).hexdigest() == each["hash"]
    return {each["kind"]: each["hash"] for each in listed}


def outcomes(dataset: Dataset, task_id: str) -> list[tuple[str, str]]:
    task = dataset.wait(task_id, timeout_s=90)
    assert (task["state"], task["attempt"]) == ("Succeeded", 2)
    return [(each["kind"], each["outcome"]) for each in task["result"]["derivatives"]]


@pytest.mark.parametrize("force", [False, True])
def test_a_build_whose_worker_dies_does_not_build_again_what_was_published(
    ailing: World, dataset: Dataset, sound_worker_busy: Path, *, force: bool
) -> None:
    worker = add_worker(ailing, failpoint="derivative-published:stop@1")
    task_id = dataset.submit("build", {"force": force})
    eventually(lambda: frozen(worker.pid))
    assert dataset.status(task_id)["finishedAt"] is None
    published = kinds(dataset)
    assert set(published) == {"pmtiles"}

    kill(worker)
    ailing.stack.workers.remove(worker)
    sound_worker_busy.touch()

    assert outcomes(dataset, task_id) == [("pmtiles", "present"), ("gpkg", "built")]
    assert set(kinds(dataset)) == {"pmtiles", "gpkg"}
    assert kinds(dataset)["pmtiles"] == published["pmtiles"]


@pytest.mark.parametrize("point", ["blob-synced", "blob-renamed"])
def test_a_worker_that_lost_its_lease_publishes_nothing(
    ailing: World, dataset: Dataset, sound_worker_busy: Path, point: str
) -> None:
    worker = add_worker(ailing, failpoint=f"{point}:stop@1")
    task_id = dataset.submit("build")
    eventually(lambda: frozen(worker.pid))
    assert kinds(dataset) == {}
    sound_worker_busy.touch()
    assert outcomes(dataset, task_id) == [("pmtiles", "built"), ("gpkg", "built")]
    before = dataset.client.get(f"{dataset.address}/build/points.geojson").json()

    dismiss(ailing, worker)  # it wakes, finds that its lease is lost, and stops

    assert dataset.client.get(f"{dataset.address}/build/points.geojson").json() == before


def test_a_storage_that_fails_at_the_second_derivative_ends_the_build_and_keeps_the_first(
    ailing: World, dataset: Dataset, sound_worker_busy: Path
) -> None:
    worker = add_worker(ailing, failpoint="blob-synced:error@2")
    task = dataset.wait(dataset.submit("build"))
    assert (task["state"], task["error"]["code"]) == ("Failed", "storage-error")
    assert set(kinds(dataset)) == {"pmtiles"}
    dismiss(ailing, worker)


def test_a_cancel_keeps_what_is_ready_and_leaves_nothing_else(
    ailing: World, dataset: Dataset, sound_worker_busy: Path
) -> None:
    worker = add_worker(ailing, failpoint="derivative-built:stop@1")
    task_id = dataset.submit("build")
    eventually(lambda: set(kinds(dataset)) == {"pmtiles"})

    dataset.client.delete(f"{dataset.address}/tasks/{task_id}").raise_for_status()

    eventually(lambda: not any(name.startswith(task_id) for name in work_folders(ailing)), timeout_s=10)
    assert dataset.status(task_id)["state"] == "Deleted"
    assert set(kinds(dataset)) == {"pmtiles"}
    eventually(lambda: not unnamed_files(ailing))
    dismiss(ailing, worker)
