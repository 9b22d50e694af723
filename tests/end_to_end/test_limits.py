"""Deduplication and quotas with many concurrent clients."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
from tests.conftest import StackFactory
from tests.support.world import Dataset, World, eventually


def submit_at_once(dataset: Dataset, bodies: list[dict[str, Any]]) -> list[httpx.Response]:
    """Submit every body at the same moment."""

    async def run() -> list[httpx.Response]:
        headers = {"Authorization": dataset.client.headers["Authorization"]}
        limits = httpx.Limits(max_connections=50)
        async with httpx.AsyncClient(
            base_url=dataset.client.base_url, headers=headers, timeout=60, limits=limits, trust_env=False
        ) as client:
            posts = (client.post(f"{dataset.address}/tasks", json=body) for body in bodies)
            return await asyncio.gather(*posts)

    return asyncio.run(run())


def test_200_identical_submits_at_once_make_one_task(world: World) -> None:
    dataset = world.dataset()
    body = {"toolId": "nothing", "params": {"label": "the same"}}

    answers = submit_at_once(dataset, [body] * 200)

    # A submit that comes after the task has ended makes a new one for a tool without an artifact that
    # succeeded: it is answered by the old one, since its outcome is still known.
    assert Counter(answer.status_code for answer in answers) == {202: 1, 200: 199}
    assert len({answer.json()["taskId"] for answer in answers}) == 1
    listed = world.admin.get(f"{dataset.address}/tasks")
    assert listed.headers["x-total-count"] == "1"


def test_a_quota_of_10_admits_10_of_200_racing_submits(make_stack: StackFactory, tmp_path: Path) -> None:
    go = tmp_path / "go"
    with make_stack(workers=1, max_active_tasks_per_org="10") as world:
        dataset = world.dataset()
        bodies = [
            {"toolId": "patient", "params": {"until": str(go), "label": str(number)}} for number in range(200)
        ]

        answers = submit_at_once(dataset, bodies)

        assert Counter(answer.status_code for answer in answers) == {202: 10, 429: 190}
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert refused.headers["content-type"] == "application/problem+json"
        assert int(refused.headers["retry-after"]) > 0
        problem = refused.json()
        assert (problem["noRetry"], problem["limitName"], problem["limit"], problem["current"]) == (
            False,
            "maxActiveTasksPerOrg",
            10,
            10,
        )
        assert world.admin.get(f"{dataset.address}/tasks").headers["x-total-count"] == "10"
        go.touch()
        eventually(lambda: dataset.try_submit("nothing").status_code == 202)


def test_an_output_estimated_beyond_the_limit_is_rejected(world: World) -> None:
    dataset = world.dataset()
    answer = dataset.try_submit("bulky", {"estimatedBytes": 20 * 1024**3 + 1})
    assert (answer.status_code, answer.json()["code"]) == (413, "output-too-large")
    assert dataset.try_submit("bulky", {"estimatedBytes": 20 * 1024**3}).status_code == 202


def test_tasks_beyond_a_users_concurrency_limit_wait(make_stack: StackFactory, tmp_path: Path) -> None:
    go = tmp_path / "go"
    with make_stack(workers=2, worker_slots="4", max_running_tasks_per_user="3") as world:
        dataset = world.dataset()
        tasks = [dataset.submit("patient", {"until": str(go), "label": str(n)}) for n in range(6)]
        other = dataset.seen_by(world.member(dataset.org, "readOnly"))
        eventually(lambda: len(list(tmp_path.glob("go.running.*"))) == 3)

        assert other.run("nothing")["state"] == "Succeeded"

        def waiting() -> list[str]:
            return [task for task in tasks if dataset.status(task)["waitingFor"] == "running-limit"]

        eventually(lambda: len(waiting()) == 3)
        held = waiting()
        assert Counter(dataset.status(task)["state"] for task in tasks) == {"Processing": 3, "Scheduled": 3}
        go.touch()
        assert {dataset.wait(task)["state"] for task in tasks} == {"Succeeded"}
        for task in map(dataset.status, held):
            moves = [(event["from"], event["to"], event["reason"]) for event in task["history"]][-3:]
            assert moves[0][1:] == ("Scheduled", "running-limit")
            assert moves[1:] == [
                ("Scheduled", "Processing", "claimed"),
                ("Processing", "Succeeded", "finished"),
            ]
            assert task["waitingFor"] is None


def test_anonymous_callers_submit_to_a_public_dataset_within_their_small_quota(
    make_stack: StackFactory, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    with make_stack(workers=1, worker_slots="4", max_active_tasks_anonymous="2") as world:
        public = world.dataset(visibility="public").seen_by(world.client())
        bodies = [{"until": str(go), "label": str(number)} for number in range(3)]
        codes = [public.try_submit("patient", body).status_code for body in bodies]
        assert codes == [202, 202, 429]
        assert public.try_submit("writer", {"folder": "x"}).status_code == 403
        go.touch()


def test_an_expired_artifact_is_gone_and_can_be_recreated(make_stack: StackFactory) -> None:
    with make_stack(workers=1, artifact_ttl_hours="1", clock_offset_s="3601") as world:
        dataset = world.dataset()
        task = dataset.run("bulky", {"estimatedBytes": 5})
        address = f"{dataset.address}/tasks/{task['taskId']}/result"

        eventually(lambda: world.admin.get(address).status_code == 410)

        assert dataset.status(task["taskId"])["artifact"] is None
        assert dataset.status(task["taskId"])["state"] == "Succeeded"
        again = dataset.try_submit("bulky", {"estimatedBytes": 5})
        assert (again.status_code, again.json()["deduplicated"]) == (202, False)


def test_rows_of_tasks_that_ended_long_ago_are_removed(make_stack: StackFactory) -> None:
    offset_s = str(61 * 24 * 3600)
    with make_stack(workers=1, clock_offset_s=offset_s) as world:
        dataset = world.dataset()
        task_id = dataset.submit("nothing")
        address = f"{dataset.address}/tasks/{task_id}"
        eventually(lambda: world.admin.get(address).status_code == 404)
