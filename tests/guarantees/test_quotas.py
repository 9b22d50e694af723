"""Quotas under 200 racing submits: limits per user, organization and system are never exceeded."""

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from tests.conftest import StackFactory
from tests.support.processes import running
from tests.support.world import Dataset, World, eventually

LIMITS = {
    "max_active_tasks": "32",
    "max_active_tasks_per_org": "10",
    "max_active_tasks_per_user": "20",
    "max_running_tasks_per_user": "3",
}


class Sampler(threading.Thread):
    """Counts active tasks as often as possible, each time in one consistent query."""

    LOOK = """
        WITH active AS (SELECT org_id, user_id, state FROM tasks
            WHERE state IN ('Created', 'Enqueued', 'Scheduled', 'Processing')
                AND waits_for IS DISTINCT FROM 'scheduled-time')
        SELECT (SELECT count(*) FROM active),
            (SELECT coalesce(max(n), 0) FROM (SELECT count(*) AS n FROM active GROUP BY org_id) AS o),
            (SELECT coalesce(max(n), 0) FROM (SELECT count(*) AS n FROM active GROUP BY user_id) AS u),
            (SELECT coalesce(max(n), 0) FROM (SELECT count(*) AS n FROM active WHERE state = 'Processing'
                GROUP BY user_id) AS r)
    """

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url
        self.looks = 0
        self.most = [0, 0, 0, 0]
        """The largest counts: active tasks in all, of one organization, of one user, and running tasks of one user."""
        self.over = threading.Event()

    def run(self) -> None:
        asyncio.run(self._look_on())

    async def _look_on(self) -> None:
        connection = await asyncpg.connect(self.url)
        try:
            while not self.over.is_set():
                [seen] = await connection.fetch(self.LOOK)
                self.most = [max(pair) for pair in zip(self.most, seen, strict=True)]
                self.looks += 1
        finally:
            await connection.close()


@contextmanager
def sampled(world: World) -> Iterator[Sampler]:
    sampler = Sampler(world.stack.environment["AEROTASK_DATABASE_URL"])
    sampler.start()
    try:
        yield sampler
    finally:
        sampler.over.set()
        sampler.join()


def at_once(datasets: list[Dataset], bodies: list[dict[str, Any]]) -> list[httpx.Response]:
    """Submit the bodies at the same moment, in turn to each dataset as its client."""

    async def run() -> list[httpx.Response]:
        async with httpx.AsyncClient(
            base_url=datasets[0].client.base_url, timeout=60, trust_env=False
        ) as client:
            return await asyncio.gather(
                *(
                    client.post(
                        f"{dataset.address}/tasks",
                        json=body,
                        headers={"Authorization": dataset.client.headers["Authorization"]},
                    )
                    for dataset, body in zip(datasets, bodies, strict=True)
                )
            )

    return asyncio.run(run())


@pytest.mark.xdist_group("quotas")
def test_racing_submits_exceed_no_limit(make_stack: StackFactory, tmp_path: Path, rng: random.Random) -> None:
    go = tmp_path / "go"
    with make_stack(workers=2, worker_slots="8", **LIMITS) as world:
        orgs = [world.org() for _ in range(4)]
        datasets = [world.dataset(org=org) for org in orgs]
        users = [world.user() for _ in range(3)]
        for org in orgs:
            for user in users:
                body = {"userName": user, "permissions": "readWrite"}
                world.admin.post(f"/orgs/{org}/members", json=body).raise_for_status()
        clients = [world.client(user) for user in users]
        seen = [rng.choice(datasets).seen_by(rng.choice(clients)) for _ in range(200)]

        with sampled(world) as sampler:
            waiting = [
                {"toolId": "patient", "params": {"until": str(go), "label": str(n)}} for n in range(200)
            ]
            answers = at_once(seen, waiting)
            assert Counter(answer.status_code for answer in answers) == {202: 32, 429: 168}
            names = {answer.json()["limitName"] for answer in answers if answer.status_code == 429}
            assert names <= {"maxActiveTasks", "maxActiveTasksPerOrg", "maxActiveTasksPerUser"}
            eventually(lambda: len(running(go)) == 9)  # three of each user
            go.touch()
            # From now on, slots become free continuously, and submits race for them.
            while sampler.looks < 200:
                short = [
                    {"toolId": "nothing", "params": {"label": str(n)}, "force": True} for n in range(200)
                ]
                codes = {answer.status_code for answer in at_once(seen, short)}
                assert codes <= {202, 429}
        active, of_org, of_user, running_of_user = sampler.most
        assert (active, running_of_user) == (32, 3)
        assert of_org <= 10
        assert of_user <= 20
        eventually(lambda: world.admin.get("/sys/tasks?state=Processing").json()["total"] == 0)


@pytest.mark.xdist_group("quotas")
def test_tasks_that_become_due_at_once_exceed_no_limit_and_all_run(make_stack: StackFactory) -> None:
    with make_stack(workers=2, worker_slots="8", **LIMITS) as world:
        datasets = [world.dataset() for _ in range(2)]
        with sampled(world) as sampler:
            soon = (datetime.now(UTC) + timedelta(seconds=5)).isoformat()
            bodies = [
                {"toolId": "nothing", "params": {"label": str(n)}, "scheduledAt": soon} for n in range(60)
            ]
            answers = at_once([datasets[n % 2] for n in range(60)], bodies)
            assert {answer.status_code for answer in answers} == {202}
            eventually(lambda: world.admin.get("/sys/tasks?state=Succeeded").json()["total"] == 60)
        active, of_org, of_user, running_of_user = sampler.most
        assert max(active, of_user) <= 20
        assert of_org <= 10
        assert running_of_user <= 3
        assert world.admin.get("/sys/tasks?state=Failed").json()["total"] == 0
