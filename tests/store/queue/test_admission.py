"""Admission of tasks that were scheduled for later: as far as the quotas have room, the oldest due first."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, update
from tests.support.rows import Rows, add_dataset, add_user

from aerotask.db.clock import db_now
from aerotask.db.models import Task
from aerotask.domain.ids import TaskId
from aerotask.domain.settings import LogLimits, Quotas
from aerotask.store.queue import admission, claims, leases
from aerotask.store.queue.admission import AdmissionLimits
from aerotask.store.queue.leases import Report, Success

LATER = datetime.now(UTC) + timedelta(days=300)
GENEROUS = {
    **dict.fromkeys(("active", "active_per_org", "active_per_user", "active_anonymous"), 100),
    "bulk_downloads_per_user": 100,
}


async def due(rows: Rows, count: int = 1, **values: Any) -> list[TaskId]:
    """Tasks that were scheduled and have become due, the first one first."""
    made = [await rows.task(scheduled_at=LATER, **values) for _ in range(count)]
    async with rows.db.begin() as connection:
        for number, task in enumerate(made):
            seconds = -100 + number
            await connection.execute(
                update(Task).where(Task.id == task).values(due_at=db_now(plus_s=seconds))
            )
    return made


async def admit(rows: Rows, **limits: int) -> list[TaskId]:
    """The tasks that are admitted now."""
    before = await admitted(rows)
    bound = AdmissionLimits(
        Quotas(**{**GENEROUS, **limits}), timedelta(days=1), ["bulk-download", "other-bulk"]
    )
    async with rows.db.begin() as connection:
        expected = await admission.any_admissible(connection, bound)
        count = await admission.admit_due(connection, bound)
    after = [task for task in await admitted(rows) if task not in before]
    assert (len(after), bool(after)) == (count, expected)
    return after


async def admitted(rows: Rows) -> list[TaskId]:
    async with rows.db.read() as connection:
        query = select(Task.id).where(Task.waits_for.is_(None)).order_by(Task.due_at, Task.id)
        return [TaskId(task) for task in (await connection.execute(query)).scalars()]


async def test_a_task_is_admitted_once_it_is_due_and_can_then_be_claimed(rows: Rows) -> None:
    await rows.task(scheduled_at=LATER)
    (task,) = await due(rows)
    async with rows.db.read() as connection:
        assert not await claims.any_due(connection)
        assert await admission.any_due(connection)
    assert await rows.claim() is None
    assert await admit(rows) == [task]
    assert (await rows.claimed()).lease.task_id == task
    async with rows.db.read() as connection:
        assert not await admission.any_due(connection)
        history = (await connection.execute(select(Task.history).where(Task.id == task))).scalar_one()
    assert [(event["to"], event["by"], event["reason"]) for event in history] == [
        ("Created", "tests", "submitted"),
        ("Scheduled", "tests", "waits for its time"),
        ("Enqueued", "schedule", "due"),
        ("Processing", "worker 1", "claimed"),
    ]


@pytest.mark.parametrize("limit", ["active", "active_per_org", "active_per_user"])
async def test_the_oldest_due_fill_what_the_limit_leaves_and_the_others_wait(rows: Rows, limit: str) -> None:
    await rows.task()
    running = await rows.claimed()
    await rows.task()
    tasks = await due(rows, 5)
    assert await admit(rows, **{limit: 4}) == tasks[:2]
    assert await admit(rows, **{limit: 4}) == []
    async with rows.db.begin() as connection:
        await leases.finish(
            connection, running.lease, Success(), Report(0), log_limits=LogLimits(10, 1000), actor="tests"
        )
    assert await admit(rows, **{limit: 4}) == [tasks[2]]
    async with rows.db.read() as connection:
        query = select(func.count()).where(Task.state == "Scheduled", Task.waits_for == "scheduled-time")
        assert (await connection.execute(query)).scalar_one() == 2


async def test_one_organizations_or_users_backlog_takes_no_room_from_others(rows: Rows) -> None:
    await due(rows, 30)
    colleague = await add_user(rows.db, "colleague")
    await due(rows, 30, user_id=colleague)
    other = await add_dataset(rows.db, await add_user(rows.db, "other"), "other")
    await due(other, 1)
    first = await admit(rows, active=12, active_per_org=10, active_per_user=6)
    async with rows.db.read() as connection:
        users = (await connection.execute(select(Task.user_id).where(Task.id.in_(first)))).scalars().all()
    counts = [users.count(user) for user in (rows.user_id, colleague, other.user_id)]
    # 6 + 6 per user, of which the organization has room for 10; then the other organization's one.
    assert (sum(counts[:2]), max(counts[:2]) <= 6, counts[2]) == (10, True, 1)


async def test_bulk_downloads_and_anonymous_callers_keep_their_own_limits(rows: Rows) -> None:
    packing = await due(rows, 3, tool_id="bulk-download")
    unpacked = await due(rows, 2)
    anonymous = await due(rows, 3, user_id=None)
    found = await admit(rows, bulk_downloads_per_user=1, active_anonymous=2, active_per_user=3)
    assert sorted(found) == sorted([packing[0], *unpacked, *anonymous[:2]])


async def test_bytes_of_a_day_hold_back_what_would_exceed_them(rows: Rows) -> None:
    await rows.task(estimated_output_bytes=50)
    tasks = await due(rows, 3, estimated_output_bytes=20)
    assert await admit(rows, artifact_bytes_per_org_day=95) == tasks[:2]


async def test_racing_workers_admit_no_more_than_the_limit(rows: Rows) -> None:
    await due(rows, 40)
    bound = AdmissionLimits(Quotas(**{**GENEROUS, "active_per_org": 7}), timedelta(days=1), [])

    async def once() -> int:
        async with rows.db.begin() as connection:
            return await admission.admit_due(connection, bound)

    assert sorted(await asyncio.gather(*(once() for _ in range(8)))) == [0] * 7 + [7]
    assert len(await admitted(rows)) == 7
