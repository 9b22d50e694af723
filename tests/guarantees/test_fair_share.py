"""Fair share: an organization's long queue hardly delays another's single task."""

import asyncio

import httpx
import pytest
from tests.conftest import StackFactory
from tests.guarantees.conftest import Figures
from tests.guarantees.invariants import sql
from tests.support.processes import claims
from tests.support.world import Dataset

WORKERS = 2


def queue(dataset: Dataset, count: int) -> None:
    """Submit many tasks of a tenth of a second each."""

    async def run() -> None:
        async with httpx.AsyncClient(
            base_url=dataset.client.base_url, headers=dataset.client.headers, timeout=60, trust_env=False
        ) as client:
            bodies = [
                {"toolId": "patient", "params": {"lines": 1, "lineEveryS": 0.1, "label": str(n)}}
                for n in range(count)
            ]
            answers = await asyncio.gather(
                *(client.post(f"{dataset.address}/tasks", json=body) for body in bodies)
            )
            assert {answer.status_code for answer in answers} == {202}

    asyncio.run(run())


@pytest.mark.xdist_group("fair share")
def test_500_queued_tasks_of_one_organization_hardly_delay_anothers_single_task(
    make_stack: StackFactory, figures: Figures
) -> None:
    with make_stack(workers=WORKERS, worker_slots="1") as world:
        greedy, modest = world.dataset(), world.dataset()
        queue(greedy, 500)

        overtaken_by = []
        for number in range(5):
            task = modest.run("nothing", {"label": str(number)})
            counted = sql(
                world,
                "SELECT count(*) FROM tasks, jsonb_array_elements(history) e WHERE dataset_id = "
                "(SELECT id FROM datasets WHERE slug = $1) AND e->>'to' = 'Processing' "
                "AND e->>'at' > $2 AND e->>'at' < $3",
                greedy.slug,
                task["history"][0]["at"],
                claims(task)[0]["at"],
            )
            overtaken_by.append(float(counted[0][0]))

        waiting = world.admin.get("/sys/tasks", params={"state": "Enqueued"}).json()["total"]
        assert waiting > 100  # otherwise there was no queue
        figures("tasks that began while a single one of another organization waited", overtaken_by)
        assert max(overtaken_by) <= WORKERS
