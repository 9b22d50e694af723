"""Lists, logs, results, cancellation and deletion of tasks over HTTP."""

from pathlib import Path

import httpx
import pytest
from jsonschema import Draft202012Validator
from tests.support.world import Dataset, World, eventually

ABSENT = "01a20276-4687-70c9-8a52-caac30ad7db1"


@pytest.fixture
def dataset(world: World) -> Dataset:
    return world.dataset()


def test_tools_are_listed_with_a_valid_closed_schema(world: World, dataset: Dataset) -> None:
    tools = world.admin.get(f"{dataset.address}/tasks/tools").json()
    export = next(tool for tool in tools if tool["id"] == "raster-export")
    assert set(export) == {
        "id",
        "version",
        "title",
        "description",
        "requiredAccess",
        "producesArtifact",
        "resultExtension",
        "inputSchema",
        "available",
        "unavailableReason",
    }
    assert (export["requiredAccess"], export["producesArtifact"], export["resultExtension"]) == (
        "read",
        True,
        ".tif",
    )
    for tool in tools:
        Draft202012Validator.check_schema(tool["inputSchema"])
        assert tool["inputSchema"]["additionalProperties"] is False


def test_all_versions_of_a_tool_are_listed_and_the_highest_is_the_default(dataset: Dataset) -> None:
    tools = dataset.client.get(f"{dataset.address}/tasks/tools").json()
    assert [tool["version"] for tool in tools if tool["id"] == "nothing"] == ["1.10", "1"]
    assert dataset.try_submit("nothing").json()["version"] == "1.10"
    assert dataset.try_submit("nothing", version="1").json()["version"] == "1"


def test_a_list_is_newest_first_filtered_and_paged(world: World, dataset: Dataset) -> None:
    tasks = [dataset.submit("nothing", {"label": str(number)}) for number in range(5)]
    failed = dataset.submit("confused", {"how": "fail"})
    for task_id in (*tasks, failed):
        dataset.wait(task_id)

    def list_tasks(**params: str) -> httpx.Response:
        return world.admin.get(f"{dataset.address}/tasks", params=params).raise_for_status()

    assert [task["taskId"] for task in list_tasks().json()] == [failed, *reversed(tasks)]
    assert [task["taskId"] for task in list_tasks(toolId="confused").json()] == [failed]
    assert list_tasks(state="Failed").headers["x-total-count"] == "1"
    assert list_tasks(userId="admin").headers["x-total-count"] == "6"
    assert list_tasks(userId="nobody-here").json() == []
    assert list_tasks(path="a.tif").json() == []
    page = list_tasks(skip="2", take="2", toolId="nothing")
    assert [task["taskId"] for task in page.json()] == [tasks[2], tasks[1]]
    assert page.headers["x-total-count"] == "5"
    assert page.links["next"]["url"] == f"{dataset.address}/tasks?toolId=nothing&skip=4&take=2"
    assert page.links["prev"]["url"] == f"{dataset.address}/tasks?toolId=nothing&skip=0&take=2"
    assert len(list_tasks(take="0").json()) == 1
    assert len(list_tasks(take="1000000000").json()) == 6


@pytest.mark.parametrize("query", ["state=Nonsense", "skip=-1", "skip=x", "take=x"])
def test_an_invalid_query_is_refused(dataset: Dataset, query: str) -> None:
    answer = dataset.client.get(f"{dataset.address}/tasks?{query}")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid-request")


def test_a_log_is_read_from_a_cursor(dataset: Dataset) -> None:
    task_id = dataset.submit("patient", {"lines": 30})
    task = dataset.wait(task_id)
    address = f"{dataset.address}/tasks/{task_id}/log"

    first = dataset.client.get(address, params={"take": "10"}).json()
    rest = dataset.client.get(address, params={"since": str(first["cursor"])}).json()

    assert first["lines"] == ["Attempt 1 of patient.", *(f"line {n}" for n in range(9))]
    assert first["lines"] + rest["lines"] == dataset.log(task_id)
    assert rest["cursor"] == task["logCursor"] == 31
    assert task["logTail"] == [f"line {n}" for n in range(10, 30)]
    assert task["progress"]["message"] == "line 29"
    beyond = dataset.client.get(address, params={"since": "999"}).json()
    assert beyond == {"cursor": 31, "lines": [], "truncatedFromTail": 0}


def test_a_result_is_available_when_the_task_has_succeeded(dataset: Dataset, tmp_path: Path) -> None:
    go = tmp_path / "go"
    task_id = dataset.submit("patient", {"until": str(go), "publish": "text"})
    address = f"{dataset.address}/tasks/{task_id}/result"
    early = dataset.client.get(address)
    assert (early.status_code, early.json()["code"]) == (409, "not-finished")
    go.touch()
    dataset.wait(task_id)
    answer = dataset.client.get(address)
    assert (answer.content, answer.headers["content-type"]) == (b"text", "text/plain; charset=utf-8")
    assert "made.txt" in answer.headers["content-disposition"]
    head = dataset.client.head(address)
    assert (head.status_code, head.headers["content-length"]) == (200, "4")
    assert dataset.client.get(address, headers={"range": "bytes=1-2"}).content == b"ex"


@pytest.mark.parametrize(
    ("tool", "params", "code"), [("nothing", {}, 404), ("confused", {"how": "fail"}, 409)]
)
def test_a_task_without_a_result_says_so(
    dataset: Dataset, tool: str, params: dict[str, str], code: int
) -> None:
    task = dataset.run(tool, params)
    assert dataset.client.get(f"{dataset.address}/tasks/{task['taskId']}/result").status_code == code


def test_deleting_an_ended_task_removes_its_artifact(dataset: Dataset) -> None:
    task = dataset.run("patient", {"publish": "x"})
    address = f"{dataset.address}/tasks/{task['taskId']}"
    for _ in range(2):
        assert dataset.client.delete(address).json() == {"taskId": task["taskId"], "state": "Deleted"}
    after = dataset.status(task["taskId"])
    assert (after["state"], after["artifact"]) == ("Deleted", None)
    assert after["finishedAt"] == task["finishedAt"]
    assert dataset.client.get(f"{address}/result").status_code == 409
    assert dataset.try_submit("patient", {"publish": "x"}).status_code == 202


def test_only_the_submitter_and_administrators_can_end_a_task(world: World, dataset: Dataset) -> None:
    reader = dataset.seen_by(world.member(dataset.org, "readOnly"))
    writer = dataset.seen_by(world.member(dataset.org, "readWriteDelete"))
    chief = dataset.seen_by(world.member(dataset.org, "admin"))
    theirs = [reader.submit("nothing", {"label": str(number)}) for number in range(2)]
    for task_id in theirs:
        reader.wait(task_id)

    def delete(caller: Dataset, task_id: str) -> int:
        return caller.client.delete(f"{dataset.address}/tasks/{task_id}").status_code

    assert delete(writer, theirs[0]) == 403
    assert delete(reader, theirs[0]) == 200
    assert delete(chief, theirs[1]) == 200
    assert delete(chief, ABSENT) == 404


def test_clear_removes_ended_tasks_and_no_others(dataset: Dataset, tmp_path: Path) -> None:
    go = tmp_path / "go"
    dataset.run("nothing")
    dataset.run("confused", {"how": "fail"})
    running = dataset.submit("patient", {"until": str(go)})
    eventually(lambda: dataset.status(running)["state"] == "Processing")

    one = dataset.client.post(f"{dataset.address}/tasks/clear", params={"toolId": "confused"})
    rest = dataset.client.post(f"{dataset.address}/tasks/clear")

    assert (one.json(), rest.json()) == ({"cleared": 1}, {"cleared": 1})
    assert [task["taskId"] for task in dataset.client.get(f"{dataset.address}/tasks").json()] == [running]
    go.touch()
    dataset.wait(running)


def test_clearing_needs_write(world: World, dataset: Dataset) -> None:
    reader = world.member(dataset.org, "readOnly")
    assert reader.post(f"{dataset.address}/tasks/clear").status_code == 403


def test_administrators_see_every_task(world: World, dataset: Dataset) -> None:
    task_id = dataset.submit("nothing")
    dataset.wait(task_id)
    answer = world.admin.get("/sys/tasks", params={"orgSlug": dataset.org}).json()
    assert (answer["total"], answer["skip"], answer["take"]) == (1, 0, 50)
    [task] = answer["items"]
    assert (task["taskId"], task["orgSlug"], task["dsSlug"], task["owner"]) == (
        task_id,
        dataset.org,
        dataset.slug,
        "admin",
    )
    assert (
        world.admin.get("/sys/tasks", params={"state": "Failed", "orgSlug": dataset.org}).json()["total"] == 0
    )
    assert world.client(world.user()).get("/sys/tasks").status_code == 403
    assert world.client().get("/sys/tasks").status_code == 401


def test_a_task_is_found_by_its_id_alone(world: World, dataset: Dataset) -> None:
    task = dataset.run("nothing")
    address = f"/tasks/{task['taskId']}"
    found = dataset.client.get(address)
    placed = {"orgSlug": dataset.org, "dsSlug": dataset.slug, "userId": found.json()["userId"]}
    assert found.json() == {**task, **placed}
    unchanged = dataset.client.get(address, headers={"If-None-Match": found.headers["etag"]})
    assert (unchanged.status_code, unchanged.content) == (304, b"")


def test_who_may_not_read_a_task_does_not_learn_that_it_exists(world: World, dataset: Dataset) -> None:
    task_id = dataset.submit("nothing")
    for client, status in ((world.client(world.user()), 404), (world.client(), 401)):
        hidden, absent = client.get(f"/tasks/{task_id}"), client.get(f"/tasks/{ABSENT}")
        assert (hidden.status_code, absent.status_code) == (status, status)
        assert hidden.text.replace(task_id, ABSENT) == absent.text
    dataset.wait(task_id)


@pytest.mark.parametrize("task_id", ["x", "../x", "1" * 40])
def test_an_invalid_task_id_is_refused(dataset: Dataset, task_id: str) -> None:
    assert dataset.client.get(f"{dataset.address}/tasks/{task_id}").status_code in {400, 404}


def test_a_status_has_all_documented_fields(dataset: Dataset) -> None:
    assert set(dataset.run("nothing")) >= {
        "taskId",
        "toolId",
        "version",
        "state",
        "progress",
        "createdAt",
        "scheduledAt",
        "startedAt",
        "finishedAt",
        "processingTimeMs",
        "attempt",
        "path",
        "params",
        "owner",
        "logCursor",
        "logTail",
        "artifact",
        "error",
        "result",
        "warnings",
        "inputs",
        "outputs",
        "history",
    }
