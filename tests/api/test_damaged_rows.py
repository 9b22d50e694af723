"""Rows whose JSON columns are damaged, by an operator's UPDATE or a bad disk, in the middle of a list."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs
from tests.support.served import Served, served
from tests.support.sse import aevents_of

from aerotask.config import Settings
from aerotask.domain.ids import TaskId

HERE = "/orgs/acme/ds/acme"
DAMAGED_TASK = """
    UPDATE tasks SET history = '{}', outputs = '{}', result = '[]', params = '"x"', metadata = '7'
    WHERE id = :id
"""
DAMAGED_ENTRY = """
    UPDATE entries SET properties = '[]', point_geom = '7', polygon_geom = '"x"' WHERE path = 'b.txt'
"""


@pytest.fixture
async def api(settings: Settings) -> AsyncIterator[Served]:
    async with served(settings) as running:
        yield running


async def change(api: Served, statement: str, **values: Any) -> None:
    async with api.platform.db.begin() as connection:
        await connection.execute(text(statement), values)


@pytest.fixture
async def tasks(api: Served) -> list[TaskId]:
    """Three tasks, the second of which is damaged."""
    ids = [await api.rows.task(params={"n": number}) for number in range(3)]
    await change(api, DAMAGED_TASK, id=ids[1])
    return ids


async def test_a_damaged_task_is_listed_as_such_and_the_others_as_they_are(
    api: Served, tasks: list[TaskId]
) -> None:
    with capture_logs() as log:
        lists = [
            (await api.client.get(f"{HERE}/tasks")).json(),
            (await api.client.get("/tasks")).json()["results"],
            (await api.client.get("/sys/tasks")).json()["items"],
        ]
    for newest, damaged, oldest in lists:
        assert [oldest["taskId"], damaged["taskId"], newest["taskId"]] == [str(task) for task in tasks]
        assert [oldest["params"], newest["params"]] == [{"n": 0}, {"n": 2}]
        assert "damaged" not in oldest
        assert [event["to"] for event in newest["history"]] == ["Created"]
        assert damaged["damaged"] == ["params", "metadata", "result", "outputs", "history"]
        empty: dict[str, Any] = {
            "params": {},
            "metadata": {},
            "result": None,
            "outputs": [],
            "outputsCount": 0,
            "history": [],
        }
        assert {name: damaged[name] for name in empty} == empty
        assert (damaged["state"], damaged["toolId"]) == ("Created", "nothing")
    assert [
        (event["table"], event["row"], event["columns"]) for event in log if event["event"] == "row.damaged"
    ] == [("tasks", str(tasks[1]), "params, metadata, result, outputs, history")]


async def test_a_damaged_task_can_be_watched_and_cancelled_but_not_run_again(
    api: Served, tasks: list[TaskId]
) -> None:
    address = api.address(tasks[1])
    assert (await api.client.get(address)).json()["damaged"][0] == "params"
    async with api.client.stream("GET", f"{address}/events") as response:
        first = await anext(aiter(aevents_of(response)))
    assert (first.name, first.data["state"], first.data["reason"]) == ("state", "Created", "")
    assert (await api.client.delete(address)).json()["state"] == "Deleted"
    for action in ("retry", "restart"):
        answer = await api.client.post(f"{address}/{action}", json={})
        assert (answer.status_code, answer.json()["code"]) == (409, "damaged-params")
    cancelled = (await api.client.get(address)).json()
    assert [event["to"] for event in cancelled["history"]] == ["Deleted"]


async def test_a_damaged_entry_is_listed_as_such_and_the_others_as_they_are(api: Served) -> None:
    for name in "abc":
        await api.client.put(f"{HERE}/obj/{name}.txt", content=name.encode())
    whole = (await api.client.get(f"{HERE}/list")).json()
    await change(api, DAMAGED_ENTRY)
    with capture_logs() as log:
        listed = (await api.client.get(f"{HERE}/list")).json()
        found = (await api.client.post(f"{HERE}/search", json={})).json()["items"]
    assert listed == found
    assert [listed[0], listed[2]] == [whole[0], whole[2]]
    assert listed[1] == {**whole[1], "damaged": ["properties", "pointGeom", "polygonGeom"]}
    assert [event["columns"] for event in log if event["event"] == "row.damaged"] == [
        "properties, point_geom, polygon_geom"
    ]
    # The content is as good as before.
    assert (await api.client.get(f"{HERE}/obj/b.txt")).content == b"b"


async def test_a_search_by_place_passes_over_damaged_points(api: Served) -> None:
    for name in "abc":
        await api.client.put(f"{HERE}/obj/{name}.txt", content=name.encode())
    await change(api, """UPDATE entries SET point_geom = '{"type": "Point", "coordinates": [7, 51]}'""")
    await change(api, """UPDATE entries SET point_geom = '{"coordinates": ["7", {}]}' WHERE path = 'b.txt'""")
    found = await api.client.post(f"{HERE}/search", json={"bbox": [6, 50, 8, 52]})
    assert [entry["path"] for entry in found.json()["items"]] == ["a.txt", "c.txt"]


async def test_damaged_derivatives_audit_events_and_callbacks_are_shown_as_such(api: Served) -> None:
    task = await api.rows.task(callback_url="https://receiver.example/x")
    await change(api, "UPDATE audit_events SET details = '[]'")
    await change(
        api,
        """INSERT INTO callbacks (id, task_id, url, body, attempts)
           VALUES (gen_random_uuid(), :task, 'https://receiver.example/x', '', '[{"at": 1}]')""",
        task=task,
    )
    events = (await api.client.get("/sys/audit")).json()["items"]
    assert {(str(event["details"]), *event["damaged"]) for event in events} == {("{}", "details")}
    (message,) = (await api.client.get(f"{api.address(task)}/callbacks")).json()
    assert (message["attempts"], message["damaged"]) == ([], ["attempts"])
    await api.client.put(f"{HERE}/obj/a.tif", content=b"x")
    await change(
        api,
        """INSERT INTO derivatives (dataset_id, source_key, kind, content_sha256, builder, blob_key, size_bytes, sha256, properties)
           SELECT dataset_id, sha256, 'cog', sha256, '1', blob_key, 1, sha256, 'true' FROM entries""",
    )
    (derivative,) = (await api.client.get(f"{HERE}/build/a.tif")).json()
    assert (derivative["kind"], derivative["properties"], derivative["damaged"]) == (
        "cog",
        {},
        ["properties"],
    )
