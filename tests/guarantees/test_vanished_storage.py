"""Storage that vanishes for a while: every request says so, nothing is written in its place, and no harm lasts."""

from __future__ import annotations

from pathlib import Path

import httpx
import numpy as np
import pytest
from tests.conftest import StackFactory
from tests.guarantees.invariants import settings_of, sql, stored_files
from tests.raster.rasters import write_raster
from tests.support.processes import await_attempt, dismiss, hold_for, restart_api
from tests.support.served import served
from tests.support.storage import new_storage, vanished
from tests.support.world import Dataset, World, eventually

from aerotask.blobs.storage_root import StorageAway
from aerotask.config import Settings
from aerotask.services.tasks.outcome.commit import outcome_of
from aerotask.store.queue.leases import Retry
from aerotask.wiring import Platform

HERE = "/orgs/acme/ds/acme"
ANNOUNCED = {"Tus-Resumable": "1.0.0", "Upload-Length": "0", "Upload-Metadata": "path Yy50eHQ="}
UNINDEX = "UPDATE entries SET indexed = false, type = 'generic', properties = '{}', index_due_at = now()"


def is_outage(answer: httpx.Response) -> bool:
    return (
        answer.status_code == 503
        and int(answer.headers["retry-after"]) > 0
        and answer.json()["noRetry"] is False
    )


def assert_unavailable(world: World, dataset: Dataset) -> None:
    ready = world.admin.get("/readyz")
    assert (ready.status_code, ready.json()["ready"]) == (503, False)
    assert ready.json()["storage"] != "ok"
    assert is_outage(dataset.client.get(f"{dataset.address}/obj/a.tif"))
    assert is_outage(dataset.client.put(f"{dataset.address}/obj/b.txt", content=b"b"))
    assert is_outage(dataset.client.get(f"{dataset.address}/download"))
    assert is_outage(dataset.client.post(f"{dataset.address}/uploads", headers=ANNOUNCED))


def test_a_storage_that_vanishes_does_no_lasting_harm(make_stack: StackFactory, tmp_path: Path) -> None:
    with make_stack(workers=1) as world:
        storage = settings_of(world).storage_folder
        log = storage.parent / "stack.log"
        dataset = world.dataset()
        raster = write_raster(tmp_path / "a.tif", np.ones((1, 8, 8), np.uint8))
        dataset.upload("a.tif", raster)
        dataset.upload("a.txt", b"a")
        go_on = tmp_path / "go-on"
        running = dataset.submit("patient", {"path": "a.txt", "until": str(go_on)})
        await_attempt(go_on, 1)

        with vanished(storage, mount_point=False):
            assert_unavailable(world, dataset)
        assert dataset.client.get(f"{dataset.address}/obj/a.tif").content == raster.read_bytes()

        with vanished(storage, mount_point=True):
            assert_unavailable(world, dataset)
            go_on.touch()
            eventually(lambda: dataset.status(running)["state"] == "Scheduled")
            sql(world, UNINDEX)
            waiting = dataset.submit("patient", {"path": "a.txt"})
            eventually(lambda: dataset.status(waiting)["state"] == "Scheduled")
            eventually(lambda: b"indexer.delayed" in log.read_bytes())
            assert not dataset.entry("a.tif")["indexed"]

        eventually(lambda: world.admin.get("/readyz").json()["ready"])
        assert [dataset.wait(task)["state"] for task in (running, waiting)] == ["Succeeded", "Succeeded"]
        eventually(lambda: dataset.entry("a.tif")["indexed"])
        assert "indexError" not in dataset.entry("a.tif")["properties"]
        dataset.upload("b.txt", b"b")


@pytest.mark.parametrize("mount_point", [False, True])
def test_processes_that_start_while_the_storage_is_away_wait_for_it(
    make_stack: StackFactory, *, mount_point: bool
) -> None:
    with make_stack(workers=1) as world:
        storage = settings_of(world).storage_folder
        log = storage.parent / "stack.log"
        dataset = world.dataset()
        dataset.upload("a.txt", b"a")
        dismiss(world, world.stack.workers[0])
        before = log.stat().st_size
        with vanished(storage, mount_point=mount_point):
            api = restart_api(world)
            worker = world.stack.start_worker()
            eventually(lambda: len(lines_of(log, before, "installation.unverified")) == 2)
            ready = world.admin.get("/readyz")
            assert (ready.status_code, ready.json()["storage"]) == (
                503,
                "missing: mount it, or run `aerotask migrate` if it is new",
            )
            assert is_outage(dataset.client.get(f"{dataset.address}/obj/a.txt"))
            waiting = dataset.submit("patient", {"path": "a.txt"})
            hold_for(2)  # several attempts, which say nothing more
            assert (api.poll(), worker.poll()) == (None, None)
        assert dataset.wait(waiting)["state"] == "Succeeded"
        unverified = lines_of(log, before, "installation.unverified")
        assert len(unverified) == 2
        assert all("aerotask migrate" in line and str(storage) in line for line in unverified)
        assert dataset.client.get(f"{dataset.address}/obj/a.txt").content == b"a"


def lines_of(log: Path, offset: int, event: str) -> list[str]:
    return [line for line in log.read_bytes()[offset:].decode().splitlines() if event in line]


@pytest.fixture
def dataset(world: World) -> Dataset:
    return world.dataset()


def test_an_entry_whose_content_is_missing_is_indexed_once_it_is_back(
    world: World, dataset: Dataset, tmp_path: Path
) -> None:
    raster = write_raster(tmp_path / "a.tif", np.ones((1, 8, 8), np.uint8))
    log = settings_of(world).storage_folder.parent / "stack.log"
    dataset.upload("a.tif", raster)
    query = "SELECT blob_key FROM entries e JOIN datasets d ON d.id = e.dataset_id WHERE d.slug = $1"
    [(key,)] = sql(world, query, dataset.slug)
    blob = stored_files(world)[key]
    blob.rename(tmp_path / "away")
    sql(world, f"{UNINDEX} WHERE blob_key = $1", key)
    eventually(lambda: f"entry_id={entry_id(world, key)}".encode() in log.read_bytes())
    assert not dataset.entry("a.tif")["indexed"]
    (tmp_path / "away").rename(blob)
    sql(world, f"{UNINDEX} WHERE blob_key = $1", key)  # rather than wait for a minute
    eventually(lambda: dataset.entry("a.tif")["indexed"])
    assert "indexError" not in dataset.entry("a.tif")["properties"]


def entry_id(world: World, blob_key: str) -> str:
    return str(sql(world, "SELECT id FROM entries WHERE blob_key = $1", blob_key)[0][0])


async def test_a_missing_content_that_a_row_names_is_an_outage(settings: Settings) -> None:
    async with served(settings) as api:
        (await api.client.put(f"{HERE}/obj/a.txt", content=b"a")).raise_for_status()
        (await api.client.put(f"{HERE}/obj/b.txt", content=b"b")).raise_for_status()
        blobs = settings.storage_folder / "blobs"
        blobs.rename(settings.storage_folder / "away")
        blobs.mkdir()
        addresses = (f"{HERE}/obj/a.txt", f"{HERE}/download?path=a.txt", f"{HERE}/download")
        for address in addresses:
            answer = await api.client.get(address)
            assert (is_outage(answer), answer.json()["code"]) == (True, "content-missing"), address
        blobs.rmdir()
        (settings.storage_folder / "away").rename(blobs)
        assert [(await api.client.get(address)).status_code for address in addresses] == [200, 200, 200]


async def test_maintenance_takes_a_storage_that_is_away_for_an_outage(
    platform: Platform, settings: Settings
) -> None:
    with vanished(settings.storage_folder, mount_point=False):
        for job in (platform.maintenance.remove_orphans, platform.maintenance.remove_expired_uploads):
            with pytest.raises(StorageAway):
                await job()


async def test_a_storage_that_is_back_before_the_failure_is_judged_costs_no_task(tmp_path: Path) -> None:
    blobs = new_storage(tmp_path / "storage")
    with vanished(tmp_path / "storage", mount_point=True), pytest.raises(StorageAway) as away:
        await blobs.make_work_folder("a")
    outcome = await outcome_of(away.value, blobs, attempt=1)
    assert isinstance(outcome, Retry)
    assert outcome.reason == "storage away"
