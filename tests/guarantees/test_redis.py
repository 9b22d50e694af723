"""Outages and data loss of Redis: no task is lost or waits long, and no worker ends."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import StackFactory
from tests.guarantees.conftest import Figures
from tests.support.processes import claims, hold_for, running, seconds_until
from tests.support.world import Dataset, World, eventually

from aerotask.stack.folder import OwnedFolder
from aerotask.stack.servers import running_valkey
from aerotask.stack.valkey import EmbeddedValkey

pytestmark = pytest.mark.xdist_group("redis")
PICKED_UP_S = 3.0
OUTAGE_S = 10.0


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    """A Valkey for this module alone."""
    with OwnedFolder(tmp_path_factory.mktemp("valkey")) as folder, running_valkey(folder) as server:
        yield server


@pytest.fixture(scope="module")
def cut_off(make_stack: StackFactory, valkey: EmbeddedValkey) -> Iterator[World]:
    """A stack over that Valkey, with the default poll interval."""
    with make_stack(workers=2, redis_url=valkey.url, worker_poll_s="1.0", heartbeat_s="1.0") as world:
        yield world


def first_claim_after(dataset: Dataset, tasks: list[str], since: float) -> float:
    """Seconds from `since` to the first claim of one of the tasks."""
    return min(seconds_until(claims(dataset.status(task))[0]["at"], since=since) for task in tasks)


def assert_no_worker_has_ended(world: World) -> None:
    assert [worker.poll() for worker in world.stack.workers] == [None, None]


async def forget_everything(server: EmbeddedValkey) -> None:
    from redis.asyncio import Redis  # noqa: PLC0415

    async with Redis.from_url(server.url) as redis:
        assert await redis.flushall()


def test_redis_forgets_everything_with_100_tasks_queued(
    cut_off: World, valkey: EmbeddedValkey, tmp_path: Path, figures: Figures
) -> None:
    import asyncio  # noqa: PLC0415

    go = tmp_path / "go"
    dataset = cut_off.dataset()
    blockers = [dataset.submit("patient", {"until": str(go), "label": str(n)}) for n in range(4)]
    eventually(lambda: len(running(go)) == 4)
    queued = [dataset.submit("nothing", {"label": str(n)}) for n in range(100)]

    asyncio.run(forget_everything(valkey))
    go.touch()
    freed_at = time.time()

    assert {dataset.wait(task)["state"] for task in [*blockers, *queued]} == {"Succeeded"}
    waited_s = first_claim_after(dataset, queued, freed_at)
    figures("picked up after FLUSHALL (s)", [waited_s])
    assert waited_s <= PICKED_UP_S
    assert_no_worker_has_ended(cut_off)


def test_redis_is_away_for_ten_seconds(cut_off: World, valkey: EmbeddedValkey, figures: Figures) -> None:
    dataset = cut_off.dataset()
    dataset.run("nothing", {"label": "before"})

    valkey.stop()
    stopped_at = time.time()
    during = [dataset.try_submit("nothing", {"label": str(n)}) for n in range(20)]
    assert {answer.status_code for answer in during} == {202}
    tasks = [answer.json()["taskId"] for answer in during]
    assert {dataset.wait(task)["state"] for task in tasks} == {"Succeeded"}
    figures("picked up without Redis (s)", [first_claim_after(dataset, tasks, stopped_at)])
    assert first_claim_after(dataset, tasks, stopped_at) <= PICKED_UP_S
    hold_for(stopped_at + OUTAGE_S - time.time())
    late = dataset.submit("nothing", {"label": "just before the return"})
    valkey.start()
    back_at = time.time()

    assert dataset.wait(late)["state"] == "Succeeded"
    assert first_claim_after(dataset, [late], back_at) <= PICKED_UP_S
    assert_no_worker_has_ended(cut_off)
    eventually(lambda: cut_off.admin.get("/readyz").json()["redis"] == "ok", timeout_s=5)
    # Wakeups arrive again: with polling alone, a claim would take up to a second.
    eventually(lambda: hinted(dataset), timeout_s=10)
    figures("hints again after the return of Redis (s)", [time.time() - back_at])


def hinted(dataset: Dataset) -> bool:
    """Whether a new task is claimed at once."""
    task = dataset.run("nothing", force=True)
    return seconds_until(claims(task)[0]["at"], since=0) - seconds_until(task["createdAt"], since=0) < 0.2
