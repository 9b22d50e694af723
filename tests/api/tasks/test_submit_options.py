"""Submit options: schedule, tags, metadata, unique ids and idempotency keys."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from tests.support.world import Dataset, World, eventually


@pytest.fixture
def dataset(world: World) -> Dataset:
    return world.dataset()


def in_s(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def test_a_scheduled_task_waits_for_its_time(dataset: Dataset) -> None:
    task_id = dataset.submit("nothing", scheduledAt=in_s(3))
    waiting = dataset.status(task_id)
    assert (waiting["state"], waiting["waitingFor"], waiting["attempt"]) == ("Scheduled", "scheduled-time", 0)
    assert [event["to"] for event in waiting["history"]] == ["Created", "Scheduled"]

    ended = dataset.wait(task_id)

    assert (ended["state"], ended["waitingFor"]) == ("Succeeded", None)
    assert ended["startedAt"] >= ended["scheduledAt"]


def test_a_time_in_the_past_means_now(dataset: Dataset) -> None:
    for past in (in_s(-3600), "0001-01-01T00:00:00Z"):
        task = dataset.run("nothing", scheduledAt=past, force=True)
        assert (task["state"], task["scheduledAt"]) == ("Succeeded", None)


def test_a_task_scheduled_for_later_is_no_duplicate_of_one_due_now(dataset: Dataset) -> None:
    later = dataset.submit("nothing", scheduledAt=in_s(3600))
    assert dataset.try_submit("nothing", scheduledAt=in_s(7200)).json()["taskId"] == later
    now = dataset.try_submit("nothing")
    assert (now.status_code, now.json()["taskId"] != later) == (202, True)
    dataset.client.delete(f"{dataset.address}/tasks/{later}").raise_for_status()


def test_tags_and_metadata_are_returned_and_tags_filter_lists(world: World, dataset: Dataset) -> None:
    named = dataset.run("nothing", {"label": "1"}, tags=["flight 7", "é"], metadata={"crew": [1, None]})
    dataset.run("nothing", {"label": "2"}, tags=["flight 8"])

    assert (named["tags"], named["metadata"]) == (["flight 7", "é"], {"crew": [1, None]})
    for address in (f"{dataset.address}/tasks", "/tasks"):
        listed = world.admin.get(address, params={"tag": "flight 7"}).raise_for_status().json()
        found = listed if isinstance(listed, list) else listed["results"]
        assert [task["taskId"] for task in found] == [named["taskId"]]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"tags": ["a\0"]}, None),
        ({"tags": ["a\x1b[0m"]}, "/body/tags/0"),
        ({"tags": [""]}, "/body/tags/0"),
        ({"tags": ["a" * 65]}, "/body/tags/0"),
        ({"tags": ["a"] * 6}, "/body/tags"),
        ({"tags": "a"}, "/body/tags"),
        ({"metadata": {"a": "x" * 17 * 1024}}, "/body/metadata"),
        ({"metadata": []}, "/body/metadata"),
        ({"scheduledAt": "2126-11-22T00:00:00Z"}, None),
        ({"scheduledAt": "9999-12-31T23:59:59Z"}, None),
        ({"scheduledAt": "9999-12-31T23:59:59-14:00"}, "/body/scheduledAt"),
        ({"scheduledAt": "0001-01-01T00:00:00+14:00"}, "/body/scheduledAt"),
        ({"scheduledAt": "tomorrow"}, "/body/scheduledAt"),
        ({"scheduledAt": "2026-11-22T12:00:00"}, "/body/scheduledAt"),
        ({"scheduledAt": 1e12}, "/body/scheduledAt"),
        ({"uniqueId": ""}, "/body/uniqueId"),
        ({"uniqueId": "a" * 129}, "/body/uniqueId"),
        ({"uniqueId": "a\nb"}, "/body/uniqueId"),
    ],
)
def test_invalid_options_are_400_and_queue_nothing(
    dataset: Dataset, body: dict[str, Any], pointer: str | None
) -> None:
    answer = dataset.try_submit("nothing", **body)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    if pointer:
        assert [fault["pointer"] for fault in answer.json()["errors"]] == [pointer]
    assert dataset.client.get(f"{dataset.address}/tasks").json() == []


def test_metadata_nested_ten_thousand_deep_is_400(dataset: Dataset) -> None:
    body = b'{"toolId": "nothing", "metadata": {"a": ' + b"[" * 10_000 + b"]" * 10_000 + b"}}"
    headers = {"Content-Type": "application/json"}
    assert dataset.client.post(f"{dataset.address}/tasks", content=body, headers=headers).status_code == 400


def test_a_unique_id_is_unique_within_an_organization(world: World, dataset: Dataset) -> None:
    holder = dataset.submit("nothing", {"label": "1"}, uniqueId="survey-7")
    sibling = world.dataset(org=dataset.org)

    taken = sibling.try_submit("nothing", {"label": "2"}, uniqueId="survey-7")

    assert (taken.status_code, taken.json()["code"]) == (409, "unique-id-taken")
    assert taken.headers["location"] == f"{dataset.address}/tasks/{holder}"
    assert dataset.status(holder)["uniqueId"] == "survey-7"
    assert world.dataset().try_submit("nothing", uniqueId="survey-7").status_code == 202


def test_the_same_submit_with_its_unique_id_is_a_duplicate_and_no_conflict(dataset: Dataset) -> None:
    first = dataset.submit("nothing", uniqueId="survey-8")
    again = dataset.try_submit("nothing", uniqueId="survey-8")
    assert (again.status_code, again.json()["taskId"]) == (200, first)


def test_concurrent_submits_with_one_unique_id_create_one_task(dataset: Dataset) -> None:
    def submit(number: int) -> int:
        return dataset.try_submit("nothing", {"label": str(number)}, uniqueId="one").status_code

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(submit, range(16))) == [202] + [409] * 15


def keyed(dataset: Dataset, key: str, label: str = "", **headers: str) -> httpx.Response:
    body = {"toolId": "nothing", "params": {"label": label}, "force": True}
    return dataset.client.post(
        f"{dataset.address}/tasks", json=body, headers={"Idempotency-Key": key, **headers}
    )


def test_the_same_key_and_body_get_the_first_response_again(dataset: Dataset) -> None:
    first = keyed(dataset, "k-1")
    dataset.wait(first.json()["taskId"])
    again = keyed(dataset, "k-1")
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json() == first.json()
    assert again.headers["location"] == first.headers["location"]
    assert len(dataset.client.get(f"{dataset.address}/tasks").json()) == 1


def test_the_same_key_with_another_body_or_dataset_is_422(world: World, dataset: Dataset) -> None:
    keyed(dataset, "k-2").raise_for_status()
    other = keyed(dataset, "k-2", "another")
    assert (other.status_code, other.json()["code"]) == (422, "idempotency-key-reused")
    assert keyed(world.dataset(), "k-2").status_code == 422


def test_a_key_belongs_to_its_caller(world: World, dataset: Dataset) -> None:
    first = keyed(dataset, "k-3").json()
    member = dataset.seen_by(world.member(dataset.org, "readOnly"))
    assert keyed(member, "k-3").json()["taskId"] != first["taskId"]


def test_concurrent_requests_with_one_key_create_one_task_and_get_one_response(dataset: Dataset) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: keyed(dataset, "k-4").text, range(24)))
    assert len(set(answers)) == 1
    assert len(dataset.client.get(f"{dataset.address}/tasks").json()) == 1


def test_a_refused_submit_leaves_its_key_free(dataset: Dataset) -> None:
    body = {"toolId": "no-such-tool"}
    refused = dataset.client.post(f"{dataset.address}/tasks", json=body, headers={"Idempotency-Key": "k-5"})
    assert refused.status_code == 400
    assert keyed(dataset, "k-5").status_code == 202


@pytest.mark.parametrize("key", ["", "a" * 256, "a\tb"])
def test_a_malformed_key_is_400(dataset: Dataset, key: str) -> None:
    assert keyed(dataset, key).status_code == 400


def test_a_scheduled_task_can_be_cancelled(dataset: Dataset) -> None:
    task_id = dataset.submit("nothing", scheduledAt=in_s(3600))
    dataset.client.delete(f"{dataset.address}/tasks/{task_id}").raise_for_status()
    eventually(lambda: dataset.status(task_id)["state"] == "Deleted")


def test_a_submit_with_callback_url_is_no_duplicate_of_a_task_without(dataset: Dataset) -> None:
    first = dataset.submit("nothing")
    url: dict[str, Any] = {"callbackUrl": "https://hooks.example.com/a"}
    called = dataset.try_submit("nothing", **url)
    assert (called.status_code, called.json()["taskId"] != first) == (202, True)
    assert dataset.try_submit("nothing", **url).json()["taskId"] == called.json()["taskId"]
    assert dataset.try_submit("nothing").status_code == 200
