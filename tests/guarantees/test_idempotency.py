"""Idempotency keys: repeating a submit after a crash of the API creates no second task."""

import random
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from tests.guarantees.invariants import sql
from tests.support.processes import restart_api
from tests.support.world import Dataset, World, eventually

SUBMITS = 200


class Answers:
    """The responses to each key's submits."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.tasks: dict[str, set[str]] = {}
        self.count = 0
        self._lock = threading.Lock()

    def submit(self, number: int) -> int | None:
        """Submit with the key of that number; the status, or None without a response."""
        try:
            answer = self.dataset.client.post(
                f"{self.dataset.address}/tasks",
                json={"toolId": "nothing", "params": {"label": str(number)}, "force": True},
                headers={"Idempotency-Key": f"key-{number}"},
            )
        except httpx.TransportError:
            return None
        with self._lock:
            self.count += 1
            if answer.status_code == 202:
                self.tasks.setdefault(f"key-{number}", set()).add(answer.json()["taskId"])
        return answer.status_code


@pytest.mark.xdist_group("idempotency")
def test_submits_with_keys_that_are_repeated_after_a_kill_make_one_task_each(
    world: World, rng: random.Random
) -> None:
    answers = Answers(world.dataset())
    enough = rng.randrange(20, SUBMITS - 40)
    with ThreadPoolExecutor(8) as clients:
        first = [clients.submit(answers.submit, number) for number in range(SUBMITS)]
        eventually(lambda: answers.count >= enough)
        restart_api(world)
    assert None in {future.result() for future in first}

    with ThreadPoolExecutor(8) as clients:
        again = list(clients.map(answers.submit, range(SUBMITS)))

    assert set(again) == {202}
    assert {key: len(tasks) for key, tasks in answers.tasks.items()} == {
        f"key-{number}": 1 for number in range(SUBMITS)
    }
    rows = sql(
        world,
        "SELECT params->>'label' AS label, count(*) AS n FROM tasks WHERE dataset_id = "
        "(SELECT id FROM datasets WHERE slug = $1) GROUP BY 1",
        answers.dataset.slug,
    )
    assert {row["label"]: row["n"] for row in rows} == {str(number): 1 for number in range(SUBMITS)}
    for [task] in answers.tasks.values():
        assert answers.dataset.wait(task)["state"] == "Succeeded"
