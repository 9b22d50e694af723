"""Expiry: artifacts are removed within a minute, ended tasks after sixty days; the clock offset simulates time."""

import asyncio
import hashlib
import random
import signal
import time
from collections.abc import Iterator

import pytest
from tests.conftest import StackFactory
from tests.guarantees.conftest import Figures
from tests.guarantees.invariants import assert_upheld, sql, stored_files
from tests.guarantees.test_downloads import MIB, make_artifact, read_some
from tests.support.processes import dismiss, frozen
from tests.support.world import Dataset, World, eventually

from aerotask.db.engine import open_database
from aerotask.failpoints import VARIABLE
from aerotask.store.queue import retention

pytestmark = pytest.mark.xdist_group("expiry")
TTL_S = 72 * 3600
DAY_S = 24 * 3600
GONE_S = 60.0


@pytest.fixture(scope="module")
def ageing(make_stack: StackFactory) -> Iterator[World]:
    """A stack whose later processes have an advanced clock."""
    with make_stack(workers=1, blob_grace_s="5", sweep_s="0.5") as world:
        yield world


@pytest.fixture
def dataset(ageing: World) -> Iterator[Dataset]:
    """A dataset; the invariants are checked after the test, possibly with an advanced clock."""
    live_later(ageing, by_s=0)
    if not ageing.stack.workers:
        ageing.stack.start_worker()
        ageing.stack.await_workers()
    yield ageing.dataset()
    assert_upheld(ageing)


def live_later(world: World, *, by_s: int, failpoint: str = "") -> None:
    """Processes started from now on have this clock offset and failpoint."""
    changes = {"AEROTASK_CLOCK_OFFSET_S": str(by_s), VARIABLE: failpoint}
    world.stack.environment = {**world.stack.environment, **changes}


def restart_worker(world: World) -> None:
    """Restart the worker with the present settings."""
    dismiss(world, world.stack.workers[0])
    world.stack.start_worker()
    world.stack.await_workers()


def due(world: World, *, by_s: int) -> tuple[int, int]:
    """The number of artifacts and rows that maintenance would remove with this clock offset."""

    async def look() -> tuple[int, int]:
        db = open_database(world.stack.environment["AEROTASK_DATABASE_URL"], application="tests")
        async with db.begin() as connection:
            artifacts = await retention.remove_expired_artifacts(
                connection, clock_offset_s=by_s, max_count=100
            )
            rows = await retention.remove_old_tasks(
                connection, retention_days=60, clock_offset_s=by_s, max_count=100
            )
            await connection.rollback()
        await db.close()
        return len(artifacts), rows.tasks

    return asyncio.run(look())


def test_artifacts_and_rows_are_removed_when_they_expire_and_not_before(
    ageing: World, dataset: Dataset, figures: Figures
) -> None:
    task = dataset.run("patient", {"lines": 3, "publish": "kept for a while"})
    address = f"{dataset.address}/tasks/{task['taskId']}"
    assert len(stored_files(ageing)) == 1

    assert [due(ageing, by_s=TTL_S + around) for around in (-600, 60)] == [(0, 0), (1, 0)]
    assert ageing.admin.get(f"{address}/result").status_code == 200

    live_later(ageing, by_s=TTL_S)
    restart_worker(ageing)
    begun = time.monotonic()
    eventually(lambda: ageing.admin.get(f"{address}/result").status_code == 410, timeout_s=GONE_S)
    eventually(lambda: stored_files(ageing) == {}, timeout_s=5)
    figures("an expired artifact is gone (s)", [time.monotonic() - begun])
    assert dataset.status(task["taskId"])["state"] == "Succeeded"

    assert [due(ageing, by_s=60 * DAY_S + around) for around in (-600, 60)] == [(0, 0), (0, 1)]
    assert len(dataset.log(task["taskId"])) == 4

    live_later(ageing, by_s=60 * DAY_S)
    restart_worker(ageing)
    eventually(lambda: ageing.admin.get(address).status_code == 404, timeout_s=GONE_S)
    assert sql(ageing, "SELECT count(*) FROM task_log")[0][0] == 0
    dismiss(ageing, ageing.stack.workers[0])


def test_an_artifact_that_expires_during_a_download_is_still_sent_whole(
    ageing: World, dataset: Dataset, rng: random.Random
) -> None:
    artifact = make_artifact(dataset, rng)
    address = str(artifact["resultUrl"])
    with ageing.admin.stream("GET", address) as answer:
        pieces = answer.iter_raw()
        first = read_some(pieces, MIB)
        live_later(ageing, by_s=TTL_S + 60)
        restart_worker(ageing)
        eventually(lambda: ageing.admin.get(address).status_code == 410)
        eventually(lambda: len(stored_files(ageing)) == 1)  # the uploaded file
        rest = b"".join(pieces)

    assert hashlib.sha256(first + rest).hexdigest() == artifact["sha256"]
    dismiss(ageing, ageing.stack.workers[0])


@pytest.mark.parametrize("action", ["kill", "stop", "error"])
def test_an_interrupted_maintenance_job_is_completed_later(
    ageing: World, dataset: Dataset, action: str
) -> None:
    task = dataset.run("patient", {"publish": f"expires before a sweep of {action}"})
    [key] = stored_files(ageing).keys() - {
        row["blob_key"] for row in sql(ageing, "SELECT blob_key FROM entries")
    }
    live_later(ageing, by_s=TTL_S + 60, failpoint=f"sweep-removing:{action}@1")
    sweeper = ageing.stack.start_worker()

    address = f"{dataset.address}/tasks/{task['taskId']}/result"
    eventually(lambda: ageing.admin.get(address).status_code == 410)
    if action == "kill":
        assert sweeper.wait(60) == -signal.SIGKILL
        ageing.stack.workers.remove(sweeper)
    elif action == "stop":
        eventually(lambda: frozen(sweeper.pid))
    assert dataset.status(task["taskId"])["state"] == "Succeeded"

    # The row is removed; the blob follows, although the process that was to remove it died.
    eventually(lambda: key not in stored_files(ageing), timeout_s=30)
    if action != "kill":
        dismiss(ageing, sweeper)
