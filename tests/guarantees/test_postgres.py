"""Restart of Postgres after a crash: accepted tasks exist, the API recovers, running tasks finish."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from tests.conftest import StackFactory
from tests.guarantees.conftest import Figures
from tests.support.processes import running
from tests.support.world import Dataset, World, eventually

from aerotask.stack.folder import OwnedFolder
from aerotask.stack.postgres import EmbeddedPostgres
from aerotask.stack.servers import running_postgres

pytestmark = pytest.mark.xdist_group("postgres")
BACK_S = 5.0


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """A durable Postgres for this module alone."""
    with OwnedFolder(tmp_path_factory.mktemp("postgres")) as folder:
        try:
            with running_postgres(folder) as server:
                yield server
        finally:
            folder.discard()


@pytest.fixture(scope="module")
def cut_off(make_stack: StackFactory, postgres: EmbeddedPostgres) -> Iterator[World]:
    """A stack over that Postgres."""
    with make_stack(workers=2, worker_slots="4", database_url=postgres.url) as world:
        yield world


@dataclass(slots=True)
class Submitters:
    """Clients that submit tasks continuously, and their responses."""

    dataset: Dataset
    statuses: Counter[int] = field(default_factory=Counter)
    accepted: list[str] = field(default_factory=list)
    unhelpful: list[httpx.Response] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    def run(self, number: int) -> None:
        """Submit until stopped."""
        label = 0
        while not self._over.is_set():
            label += 1
            answer = self.dataset.try_submit("nothing", {"label": f"{number}.{label}"})
            self.statuses[answer.status_code] += 1
            if answer.status_code == 202:
                self.accepted.append(answer.json()["taskId"])
            elif answer.status_code != 503 or int(answer.headers.get("retry-after", 0)) < 1:
                self.unhelpful.append(answer)

    @contextmanager
    def running(self, *, clients: int = 4) -> Iterator[None]:
        """Submit while the block runs."""
        threads = [threading.Thread(target=self.run, args=[number]) for number in range(clients)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join()


def test_postgres_restarts_in_mid_task_and_mid_submit(
    cut_off: World, postgres: EmbeddedPostgres, tmp_path: Path, figures: Figures
) -> None:
    go = tmp_path / "go"
    dataset = cut_off.dataset()
    params = {"until": str(go), "lines": 200, "lineEveryS": 0.02, "publish": "x"}
    running_tasks = [dataset.submit("patient", {**params, "label": str(n)}) for n in range(3)]
    eventually(lambda: all("line 5" in dataset.log(task) for task in running_tasks))

    submitters = Submitters(dataset)
    with submitters.running():
        eventually(lambda: submitters.statuses[202] >= 20)
        postgres.kill()
        eventually(lambda: submitters.statuses[503] >= 20)
        postgres.start()
        back_at = time.monotonic()
        before = submitters.statuses[202]
        eventually(lambda: submitters.statuses[202] > before)
        figures("the API is back after Postgres (s)", [time.monotonic() - back_at])
        assert time.monotonic() - back_at <= BACK_S
        eventually(lambda: submitters.statuses[202] >= before + 20)

    assert submitters.unhelpful == []
    assert set(submitters.statuses) == {202, 503}
    assert {dataset.wait(task)["state"] for task in submitters.accepted} == {"Succeeded"}
    eventually(lambda: len(running(go)) == 3)
    go.touch()
    for task_id in running_tasks:
        task = dataset.wait(task_id)
        assert (task["state"], task["attempt"]) == ("Succeeded", 1)
        assert dataset.log(task_id) == ["Attempt 1 of patient.", *(f"line {n}" for n in range(200))]
    assert [worker.poll() for worker in cut_off.stack.workers] == [None, None]


def test_wakeups_are_sent_again_after_an_outage_of_postgres(
    cut_off: World, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    dataset = cut_off.dataset()
    submitters = Submitters(dataset)
    with submitters.running():
        eventually(lambda: submitters.statuses[202] >= 20)
        postgres.kill()
        postgres.start()
        before = submitters.statuses[202]
        eventually(lambda: submitters.statuses[202] >= before + 20)
    for task in submitters.accepted:
        dataset.wait(task)
    blockers = [dataset.submit("patient", {"until": str(go), "label": str(n)}) for n in range(8)]
    eventually(lambda: len(running(go)) == 8)

    waiting = dataset.submit("nothing")

    eventually(lambda: dataset.status(waiting)["state"] == "Enqueued", timeout_s=5)
    go.touch()
    for task in [*blockers, waiting]:
        dataset.wait(task)


def test_a_worker_stops_while_postgres_is_away(
    cut_off: World, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    dataset = cut_off.dataset()
    task_id = dataset.submit("patient", {"until": str(go), "publish": "x"})
    eventually(lambda: len(running(go)) == 1)

    postgres.kill()
    for worker in cut_off.stack.workers:
        worker.terminate()
    try:
        for worker in cut_off.stack.workers:
            worker.wait(15)
    finally:
        postgres.start()
        cut_off.stack.workers.clear()
        for _ in range(2):
            cut_off.stack.start_worker()
        cut_off.stack.await_workers()

    go.touch()
    assert dataset.wait(task_id)["state"] == "Succeeded"


def test_a_worker_stops_if_postgres_was_never_reachable(cut_off: World, postgres: EmbeddedPostgres) -> None:
    assert cut_off.stack.log is not None
    log = Path(cut_off.stack.log.name)
    before = log.stat().st_size
    postgres.kill()
    worker = cut_off.stack.start_worker()
    try:
        # By then, it handles signals.
        eventually(lambda: b"installation.unverified" in log.read_bytes()[before:])
        worker.terminate()
        assert worker.wait(15) == 0
    finally:
        cut_off.stack.workers.remove(worker)
        postgres.start()
        cut_off.stack.await_workers()
