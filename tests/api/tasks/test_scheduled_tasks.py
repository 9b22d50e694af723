"""Quotas of tasks that are scheduled for later: a limit of their own, and the limits on active tasks once they are due."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select, text
from tests.support.served import Served, served

from aerotask.config import Settings
from aerotask.db.models import Task

TASKS = "/orgs/acme/ds/acme/tasks"
LIMITS = {"max_active_tasks_per_org": 2, "max_scheduled_tasks_per_user": 12}


def next_year() -> str:
    return (datetime.now(UTC) + timedelta(days=360)).isoformat()


@pytest.fixture
async def api(settings: Settings) -> AsyncIterator[Served]:
    """An API whose organizations may have two active tasks, without workers."""
    async with served(Settings.model_validate({**settings.model_dump(), **LIMITS})) as running:
        yield running


async def submit(api: Served, **body: Any) -> httpx.Response:
    return await api.client.post(TASKS, json={"toolId": "rescan-index", "force": True, **body})


def limit_of(answer: httpx.Response) -> tuple[int, str, int, int, str]:
    problem = answer.json()
    names = ("limitName", "limit", "current")
    return answer.status_code, *(problem[name] for name in names), answer.headers["retry-after"]


async def test_ten_tasks_for_next_year_block_nobody(api: Served) -> None:
    planned = [await submit(api, scheduledAt=next_year()) for _ in range(10)]
    assert [answer.status_code for answer in planned] == [202] * 10
    assert [(await submit(api)).status_code for _ in range(2)] == [202] * 2
    assert limit_of(await submit(api)) == (429, "maxActiveTasksPerOrg", 2, 2, "15")
    usage = (await api.client.get("/orgs/acme/usage")).json()
    assert (usage["activeTasks"], usage["activeTasksOfCaller"]) == (2, 2)
    # A time that has passed makes a task an active one.
    assert limit_of(await submit(api, scheduledAt="2026-01-01T00:00:00Z"))[:2] == (
        429,
        "maxActiveTasksPerOrg",
    )


async def test_racing_schedules_keep_a_limit_of_their_own(api: Served) -> None:
    answers = await asyncio.gather(*(submit(api, scheduledAt=next_year()) for _ in range(30)))
    refused = [answer for answer in answers if answer.status_code != 202]
    assert {limit_of(answer) for answer in refused} == {(429, "maxScheduledTasksPerUser", 12, 12, "600")}
    assert len(refused) == 18
    assert (await submit(api)).status_code == 202
    features = (await api.client.get("/sys/features")).json()
    assert features["limits"]["maxScheduledTasksPerUser"] == 12


async def test_once_due_they_wait_for_room_and_none_fails(api: Served) -> None:
    for _ in range(5):
        await submit(api, scheduledAt=next_year())
    active = [(await submit(api)).json()["taskId"] for _ in range(2)]
    async with api.platform.db.begin() as connection:
        await connection.execute(text("UPDATE tasks SET due_at = now() WHERE state = 'Scheduled'"))
    admitted = [await api.platform.admission.admit_due()]
    # Due tasks come before new submits.
    assert limit_of(await submit(api))[:2] == (429, "maxActiveTasksPerOrg")
    for task in active:
        await api.client.delete(f"{TASKS}/{task}")
        admitted += [await api.platform.admission.admit_due() for _ in range(2)]
    assert admitted == [0, 1, 0, 1, 0]
    async with api.platform.db.read() as connection:
        query = select(Task.state, func.count()).group_by(Task.state).order_by(Task.state)
        states = [tuple(row) for row in await connection.execute(query)]
    assert states == [("Deleted", 2), ("Enqueued", 2), ("Scheduled", 3)]
    listed = (await api.client.get(f"{TASKS}?state=Scheduled")).json()
    assert {task["waitingFor"] for task in listed} == {"scheduled-time"}
