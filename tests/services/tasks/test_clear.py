"""Clearing a dataset of its ended tasks."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select, text, true
from tests.support.rows import Rows, add_dataset, add_user
from tests.support.statements import rows_changed

from aerotask.db.models import Task
from aerotask.domain.access import Caller
from aerotask.store.queue import clear
from aerotask.wiring import Platform

FILL = """
    INSERT INTO tasks (id, org_id, dataset_id, user_id, tool_id, tool_version, params, dedup_key,
                       estimated_output_bytes, memory_bytes, state, finished_at)
    SELECT gen_random_uuid(), :org, :dataset, :user, CASE WHEN n % 2 = 0 THEN 'even' ELSE 'odd' END, '1', '{}', '', 0, 0,
           'Succeeded', now() FROM generate_series(1, :count) n
"""


@pytest.fixture
async def rows(platform: Platform) -> Rows:
    return await add_dataset(platform.db, await add_user(platform.db, "owner"), "acme")


async def fill(rows: Rows, count: int) -> None:
    named = {"org": rows.org_id, "dataset": rows.dataset_id, "user": rows.user_id, "count": count}
    async with rows.db.begin() as connection:
        await connection.execute(text(FILL), named)


async def left(rows: Rows) -> int:
    async with rows.db.read() as connection:
        return (await connection.execute(select(func.count()).select_from(Task))).scalar_one()


async def test_ended_tasks_are_removed_a_few_per_transaction(platform: Platform, rows: Rows) -> None:
    await fill(rows, 90)
    waiting = await rows.task()
    owner = Caller(rows.user_id, "owner", is_admin=False)
    with rows_changed(platform.db, "DELETE FROM tasks") as removed:
        assert await platform.tasks.clear(owner, "acme", "acme", tool_id="odd") == 45
    assert removed == [20, 20, 5]
    assert await platform.tasks.clear(owner, "acme", "acme", tool_id=None) == 45
    async with rows.db.read() as connection:
        assert list((await connection.execute(select(Task.id))).scalars()) == [waiting]


async def test_removing_many_tasks_needs_one_query_parameter(rows: Rows) -> None:
    await fill(rows, 33_000)
    async with rows.db.begin() as connection:
        assert (await clear.remove_tasks(connection, [true()], max_count=40_000)).tasks == 33_000
    assert await left(rows) == 0
