"""Logs with concurrent readers and a killed worker: no line is lost or duplicated, and all readers see the same."""

import threading
from dataclasses import dataclass, field

from tests.support.processes import kill
from tests.support.world import ENDED, Dataset, World, eventually

LINES = 200


@dataclass(slots=True)
class Poller:
    """A client that polls a task's log by its cursor until the task has ended."""

    dataset: Dataset
    task_id: str
    take: int
    lines: list[str] = field(default_factory=list)
    leaps: list[tuple[int, int]] = field(default_factory=list)
    """Reads whose cursor didn't advance by the number of lines."""
    failure: BaseException | None = None

    def run(self) -> None:
        """Poll the log."""
        try:
            self._follow()
        except BaseException as error:  # noqa: BLE001  the test checks it
            self.failure = error

    def _follow(self) -> None:
        cursor, ended = 0, False
        while True:
            page = self.dataset.client.get(
                f"{self.dataset.address}/tasks/{self.task_id}/log",
                params={"since": cursor, "take": self.take},
            ).raise_for_status()
            body = page.json()
            if body["cursor"] != cursor + len(body["lines"]) or body["truncatedFromTail"]:
                self.leaps.append((cursor, body["cursor"]))
            self.lines += body["lines"]
            if ended and not body["lines"]:
                return
            cursor = body["cursor"]
            if not ended:
                ended = self.dataset.status(self.task_id)["state"] in ENDED


def test_eight_pollers_of_four_writing_tasks_see_every_line_once_across_a_kill(world: World) -> None:
    dataset = world.dataset()
    tasks = [
        dataset.submit("patient", {"lines": LINES, "lineEveryS": 0.01, "label": str(n)}) for n in range(4)
    ]
    pollers = [Poller(dataset, task, take) for task in tasks for take in (7, 1000)]
    threads = [threading.Thread(target=poller.run) for poller in pollers]
    for thread in threads:
        thread.start()
    eventually(lambda: all("line 20" in dataset.log(task) for task in tasks))
    victim = world.stack.workers[0]
    kill(victim)
    world.stack.workers.remove(victim)
    world.stack.start_worker()
    for thread in threads:
        thread.join()

    attempts = [dataset.wait(task)["attempt"] for task in tasks]
    assert sorted(attempts) == [1, 1, 2, 2]
    for poller, attempt in zip(pollers, [n for n in attempts for _ in range(2)], strict=True):
        assert (poller.failure, poller.leaps) == (None, [])
        assert poller.lines == dataset.log(poller.task_id)
        assert_complete(poller.lines, attempt)
    world.stack.await_workers()


def assert_complete(lines: list[str], attempts: int) -> None:
    """All lines of the last attempt; of a killed attempt, all up to some line."""
    last = [f"Attempt {attempts} of patient.", *(f"line {number}" for number in range(LINES))]
    assert lines[-len(last) :] == last
    former = lines[: -len(last)]
    if attempts == 1:
        assert former == []
    else:
        assert former[0] == "Attempt 1 of patient."
        assert former[1:] == [f"line {number}" for number in range(len(former) - 1)]
        assert len(former) > 20
