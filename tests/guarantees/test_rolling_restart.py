"""Rolling restart under load: no task is lost, and no attempt counts as failed."""

import random
import signal
import threading
from pathlib import Path

import httpx
import pytest
from tests.conftest import StackFactory
from tests.guarantees.invariants import sql
from tests.support.world import Dataset, World, eventually

# uvicorn shuts down gracefully, then exits with the signal that it received.
ORDERLY = {"worker": {0}, "api": {0, -signal.SIGTERM}}


class Load(threading.Thread):
    """A client that submits short tasks continuously, also while the API is down."""

    def __init__(self, dataset: Dataset) -> None:
        super().__init__()
        self.dataset = dataset
        self.accepted: list[str] = []
        self.unexpected: list[httpx.Response] = []
        self.over = threading.Event()

    def run(self) -> None:
        for number in range(100_000):
            if self.over.wait(0.05):
                return
            params = {"lines": 5, "lineEveryS": 0.05, "publish": str(number)}
            try:
                answer = self.dataset.try_submit("patient", params)
            except httpx.TransportError:
                continue
            if answer.status_code == 202:
                self.accepted.append(answer.json()["taskId"])
            elif answer.status_code != 503:
                self.unexpected.append(answer)


def restart(world: World, part: str) -> int:
    """Restart one process as an operator does, with SIGTERM; its exit status."""
    if part == "api":
        assert world.stack.api is not None
        former = world.stack.api
        former.send_signal(signal.SIGTERM)
        status = former.wait(30)
        world.stack.start_api()
        world.stack.await_api()
    else:
        former = world.stack.workers.pop(0)
        former.send_signal(signal.SIGTERM)
        status = former.wait(30)
        # Otherwise the former worker could be mistaken for its successor.
        eventually(lambda: world.admin.get("/readyz").json()["workers"] == len(world.stack.workers))
        world.stack.start_worker()
        world.stack.await_workers()
    return status


@pytest.mark.xdist_group("rolling restart")
@pytest.mark.timeout(600)
def test_restarts_under_load_lose_nothing(
    make_stack: StackFactory, rng: random.Random, restarts: int, tmp_path: Path
) -> None:
    with make_stack(workers=2, shutdown_grace_s="0") as world:
        dataset = world.dataset()
        load = Load(dataset)
        load.start()
        try:
            parts = ["worker", "worker", "api", *rng.choices(["worker", "worker", "api"], k=restarts)]
            for part in parts[:restarts]:
                assert restart(world, part) in ORDERLY[part]
        finally:
            load.over.set()
            load.join()

        assert load.unexpected == []
        assert len(load.accepted) >= restarts
        ended = [dataset.wait(task) for task in load.accepted]
        assert {task["state"] for task in ended} == {"Succeeded"}
        reasons = {event["reason"] for task in ended for event in task["history"]}
        assert "worker lost" not in reasons
        assert sql(world, "SELECT max(strikes) FROM tasks")[0][0] == 0
