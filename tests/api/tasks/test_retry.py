"""Retry and restart of ended tasks, and their assets."""

import asyncio
from pathlib import Path

import httpx
import pytest
from tests.support.databases import run_sql
from tests.support.world import Dataset, World, eventually

ABSENT = "01a20276-4687-70c9-8a52-caac30ad7db1"


@pytest.fixture
def dataset(world: World) -> Dataset:
    return world.dataset()


def retry(dataset: Dataset, task_id: str) -> httpx.Response:
    return dataset.client.post(f"{dataset.address}/tasks/{task_id}/retry")


def restart(dataset: Dataset, task_id: str, **body: object) -> httpx.Response:
    return dataset.client.post(f"{dataset.address}/tasks/{task_id}/restart", json=body)


def test_a_retried_task_runs_as_the_next_attempt_with_the_same_log(dataset: Dataset) -> None:
    task = dataset.run("confused", {"how": "fail"})

    answer = retry(dataset, task["taskId"])

    assert (answer.status_code, answer.json()["taskId"]) == (202, task["taskId"])
    eventually(lambda: dataset.status(task["taskId"])["attempt"] == 2)
    again = dataset.wait(task["taskId"])
    assert (again["state"], again["error"]["code"]) == ("Failed", "bad-weather")
    assert [event["reason"] for event in again["history"]].count("retried") == 1
    assert [event["by"] for event in again["history"] if event["reason"] == "retried"] == ["admin"]
    log = dataset.log(task["taskId"])
    assert [line for line in log if line.startswith("Attempt")] == [
        "Attempt 1 of confused.",
        "Attempt 2 of confused.",
    ]
    assert again["logCursor"] == len(log)


def test_a_deleted_task_can_be_retried_and_makes_its_artifact(dataset: Dataset) -> None:
    task = dataset.run("patient", {"publish": "again"})
    dataset.client.delete(f"{dataset.address}/tasks/{task['taskId']}").raise_for_status()
    assert retry(dataset, task["taskId"]).status_code == 202
    again = dataset.wait(task["taskId"])
    assert (again["state"], again["attempt"]) == ("Succeeded", 2)
    assert dataset.client.get(again["artifact"]["resultUrl"]).content == b"again"


def test_a_running_or_succeeded_task_is_not_retried(dataset: Dataset, tmp_path: Path) -> None:
    go = tmp_path / "go"
    running = dataset.submit("patient", {"until": str(go)})
    eventually(lambda: dataset.status(running)["state"] == "Processing")
    refused = retry(dataset, running)
    assert (refused.status_code, refused.json()["code"]) == (409, "not-retryable")
    assert (restart(dataset, running).status_code, restart(dataset, running).json()["code"]) == (
        409,
        "not-ended",
    )
    go.touch()
    assert dataset.wait(running)["attempt"] == 1
    assert retry(dataset, running).status_code == 409


def test_a_retry_needs_the_submitted_contents(dataset: Dataset) -> None:
    dataset.upload("in.txt", b"first")
    task = dataset.run("patient", {"path": "in.txt"})
    dataset.client.delete(f"{dataset.address}/tasks/{task['taskId']}").raise_for_status()
    dataset.upload("in.txt", b"second")

    refused = retry(dataset, task["taskId"])

    assert (refused.status_code, refused.json()["code"]) == (409, "input-changed")
    assert dataset.status(task["taskId"])["state"] == "Deleted"
    restarted = restart(dataset, task["taskId"]).json()["taskId"]
    made = dataset.wait(restarted)
    assert dataset.client.get(made["artifact"]["resultUrl"]).content == b"second"


def test_a_restart_is_a_new_task_with_some_params_changed(dataset: Dataset) -> None:
    old = dataset.run("patient", {"publish": "old", "label": "kept"}, tags=["t"], metadata={"m": 1})

    answer = restart(dataset, old["taskId"], params={"publish": "new"})

    assert (answer.status_code, answer.json()["deduplicated"]) == (202, False)
    assert answer.headers["location"] == answer.json()["statusUrl"]
    new = dataset.wait(answer.json()["taskId"])
    assert (new["restartOf"], new["taskId"] != old["taskId"]) == (old["taskId"], True)
    assert (new["params"]["label"], new["params"]["publish"]) == ("kept", "new")
    assert (new["tags"], new["metadata"]) == (["t"], {"m": 1})
    assert old["restartOf"] is None


def test_a_restart_with_invalid_params_is_400(dataset: Dataset) -> None:
    old = dataset.run("nothing")
    assert restart(dataset, old["taskId"], params={"nonsense": 1}).json()["code"] == "invalid-params"
    assert restart(dataset, old["taskId"], rerunFrom="dsm").json()["code"] == "no-stages"
    assert restart(dataset, old["taskId"], unknown=1).status_code == 400


def test_retrying_needs_permission_and_strangers_get_404(world: World, dataset: Dataset) -> None:
    task = dataset.run("confused", {"how": "fail"})
    reader = dataset.seen_by(world.member(dataset.org, "readOnly"))
    stranger = dataset.seen_by(world.client(world.user()))
    for rerun in (retry, restart):
        assert rerun(reader, task["taskId"]).status_code == 403
        assert rerun(stranger, task["taskId"]).status_code == 404
        assert rerun(dataset, ABSENT).status_code == 404
        assert rerun(dataset.seen_by(world.client()), task["taskId"]).status_code == 401


def test_all_files_of_a_task_can_be_listed_and_downloaded(world: World, dataset: Dataset) -> None:
    task = dataset.run("album")

    assets = dataset.client.get(f"{dataset.address}/tasks/{task['taskId']}/assets").json()

    assert [asset["name"] for asset in assets] == ["main.txt", "legend.txt", "Übersicht 1.txt"]
    assert task["artifact"]["fileName"] == "main.txt"
    for asset in assets:
        answer = dataset.client.get(asset["url"]).raise_for_status()
        assert answer.text == f"this is {asset['name']}"
        assert answer.headers["etag"] == f'"{asset["sha256"]}"'
        head = dataset.client.head(asset["url"])
        assert (head.status_code, head.headers["content-length"]) == (200, str(asset["sizeBytes"]))
    missing = dataset.client.get(f"{dataset.address}/tasks/{task['taskId']}/assets/other.txt")
    assert (missing.status_code, missing.json()["code"]) == (404, "no-such-asset")
    dataset.client.delete(f"{dataset.address}/tasks/{task['taskId']}").raise_for_status()
    assert dataset.client.get(f"{dataset.address}/tasks/{task['taskId']}/assets").json() == []
    assert dataset.client.get(assets[1]["url"]).status_code == 409


def test_a_task_whose_tool_version_is_gone_is_neither_restarted_nor_retried(
    world: World, dataset: Dataset
) -> None:
    task = dataset.run("confused", {"how": "fail"})
    was_made_by = f"UPDATE tasks SET tool_version = '0.9' WHERE id = '{task['taskId']}'"
    asyncio.run(run_sql(world.stack.environment["AEROTASK_DATABASE_URL"], was_made_by))
    for rerun in (retry, restart):
        refused = rerun(dataset, task["taskId"])
        assert (refused.status_code, refused.json()["code"]) == (400, "unknown-version")
    assert dataset.status(task["taskId"])["state"] == "Failed"
