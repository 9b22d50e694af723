import asyncio

import pytest
from sqlalchemy import select, update
from tests.support.rows import Rows, add_user

from aerotask.db.clock import db_now
from aerotask.db.models import Task
from aerotask.domain.ids import TaskId
from aerotask.domain.settings import LogLimits
from aerotask.store.queue import concurrency, leases
from aerotask.store.queue.leases import Report, Success


async def hold_back(rows: Rows, *, limit: int = 1) -> int:
    async with rows.db.begin() as connection:
        found = await concurrency.any_throttled(connection, max_running_per_user=limit)
        held = await concurrency.mark_throttled(connection, max_running_per_user=limit, max_count=100)
    assert found or held == 0
    return held


async def waits(rows: Rows, task_id: TaskId) -> tuple[str, str | None]:
    async with rows.db.read() as connection:
        found = await connection.execute(select(Task.state, Task.waits_for).where(Task.id == task_id))
    state, waits_for = found.one()
    return state, waits_for


async def test_due_tasks_of_a_user_at_the_limit_are_marked(rows: Rows) -> None:
    await rows.task()
    await rows.claimed()
    waiting = [await rows.task() for _ in range(2)]

    assert await hold_back(rows) == 2

    assert [await waits(rows, task_id) for task_id in waiting] == [("Scheduled", "running-limit")] * 2


async def test_tasks_of_a_user_below_the_limit_are_not_marked(rows: Rows) -> None:
    await rows.task()
    await rows.claimed()
    waiting = await rows.task()
    other = await rows.task(user_id=await add_user(rows.db, "other"))
    async with rows.db.read() as connection:
        assert not await concurrency.any_throttled(connection, max_running_per_user=2)
    assert await hold_back(rows, limit=2) == 0
    assert await hold_back(rows, limit=1) == 1
    assert await waits(rows, waiting) == ("Scheduled", "running-limit")
    assert await waits(rows, other) == ("Created", None)


async def test_anonymous_callers_count_as_one_user(rows: Rows) -> None:
    await rows.task(user_id=None)
    await rows.claimed()
    waiting = await rows.task(user_id=None)
    mine = await rows.task()
    assert await hold_back(rows) == 1
    assert await waits(rows, waiting) == ("Scheduled", "running-limit")
    assert await waits(rows, mine) == ("Created", None)


async def test_a_task_that_is_not_due_waits_for_its_own_reason_first(rows: Rows) -> None:
    await rows.task()
    await rows.claimed()
    later = await rows.task()
    async with rows.db.begin() as connection:
        await connection.execute(
            update(Task)
            .where(Task.id == later)
            .values(state="Scheduled", waits_for="retry-delay", due_at=db_now(plus_s=60))
        )
    assert await hold_back(rows) == 0
    assert await waits(rows, later) == ("Scheduled", "retry-delay")
    async with rows.db.begin() as connection:
        await connection.execute(update(Task).where(Task.id == later).values(due_at=db_now()))
    assert await hold_back(rows) == 0  # it was Scheduled already
    assert await waits(rows, later) == ("Scheduled", "running-limit")


async def test_marking_twice_changes_nothing_more(rows: Rows) -> None:
    await rows.task()
    await rows.claimed()
    for _ in range(5):
        await rows.task()
    counts = await asyncio.gather(*(hold_back(rows) for _ in range(8)))
    assert sum(counts) == 5
    async with rows.db.read() as connection:
        histories = (await connection.execute(select(Task.history).where(Task.attempt == 0))).scalars().all()
    assert [[event["reason"] for event in history] for history in histories] == [
        ["submitted", "running-limit"]
    ] * 5


async def test_a_task_that_is_being_cancelled_is_left_alone(rows: Rows) -> None:
    await rows.task()
    await rows.claimed()
    waiting = await rows.task()
    async with rows.db.begin() as connection:
        await connection.execute(select(Task.id).where(Task.id == waiting).with_for_update())
        assert await hold_back(rows) == 0


@pytest.mark.parametrize("limit", [1, 3])
async def test_a_marked_task_is_claimed_when_the_limit_allows(rows: Rows, limit: int) -> None:
    for _ in range(limit):
        await rows.task()
    running = [await rows.claimed() for _ in range(limit)]
    waiting = await rows.task()
    await hold_back(rows, limit=limit)
    assert await rows.claim(max_running_per_user=limit) is None
    async with rows.db.begin() as connection:
        await leases.finish(
            connection,
            running[0].lease,
            Success(),
            Report(0),
            log_limits=LogLimits(10, 1000),
            actor="worker 1",
        )
    assert (await rows.claimed(max_running_per_user=limit)).lease.task_id == waiting
    assert await waits(rows, waiting) == ("Processing", None)
