"""Log limits: retained and dropped lines, counted exactly."""

import time
from collections.abc import Sequence

import pytest
from sqlalchemy import func, select, update
from tests.support.rows import Rows

from aerotask.db.clock import db_now
from aerotask.db.models import Task, TaskLogLine
from aerotask.domain.ids import TaskId
from aerotask.domain.settings import LogLimits
from aerotask.domain.states import TaskState
from aerotask.store.queue import cancel, clear, leases, logs, retention
from aerotask.store.queue.claims import ClaimedTask
from aerotask.store.queue.leases import Failure, Report, Retry

WIDE = LogLimits(1000, 1000)


@pytest.fixture
async def task(rows: Rows) -> ClaimedTask:
    await rows.task()
    return await rows.claimed(worker_no=1)


async def report(
    rows: Rows, task: ClaimedTask, first: int, lines: Sequence[str], keep: LogLimits = WIDE
) -> None:
    async with rows.db.begin() as connection:
        await leases.report(connection, task.lease, Report(first, tuple(lines)), log_limits=keep)


async def kept(rows: Rows, task: ClaimedTask) -> tuple[int, int, tuple[str, ...]]:
    """The number of dropped lines, the bytes that the row counts, and the lines."""
    async with rows.db.read() as connection:
        page = await logs.read(connection, task.lease.task_id, since=0, take=100_000)
        counted = (await connection.execute(select(Task.log_bytes))).scalar_one()
    return page.dropped, counted, page.lines


async def test_a_log_counts_the_bytes_of_its_lines(rows: Rows, task: ClaimedTask) -> None:
    await report(rows, task, 0, ["abc", "für", ""])
    assert await kept(rows, task) == (0, 7, ("abc", "für", ""))


async def test_a_log_keeps_the_last_lines_that_fit_its_bytes(rows: Rows, task: ClaimedTask) -> None:
    limit = LogLimits(1000, 10)
    await report(rows, task, 0, ["1234", "5678"], limit)
    await report(rows, task, 2, ["90", "ü"], limit)
    assert await kept(rows, task) == (1, 8, ("5678", "90", "ü"))
    await report(rows, task, 4, ["abcdefghij"], limit)
    assert await kept(rows, task) == (4, 10, ("abcdefghij",))


async def test_the_stricter_of_lines_and_bytes_decides(rows: Rows, task: ClaimedTask) -> None:
    limit = LogLimits(3, 10)
    await report(rows, task, 0, ["a", "b", "c", "d"], limit)
    assert await kept(rows, task) == (1, 3, ("b", "c", "d"))
    await report(rows, task, 4, ["123456789"], limit)
    assert await kept(rows, task) == (3, 10, ("d", "123456789"))


async def test_a_report_beyond_the_limit_drops_its_own_head_and_all_before(
    rows: Rows, task: ClaimedTask
) -> None:
    limit = LogLimits(1000, 6)
    await report(rows, task, 0, ["old"], limit)
    await report(rows, task, 1, ["aaa", "bbb", "ccc"], limit)
    assert await kept(rows, task) == (2, 6, ("bbb", "ccc"))


async def test_a_sender_that_dropped_lines_itself_leaves_no_gap(rows: Rows, task: ClaimedTask) -> None:
    await report(rows, task, 0, ["a", "b"])
    await report(rows, task, 5, ["f", "g"])
    assert await kept(rows, task) == (5, 2, ("f", "g"))


async def test_a_repeated_report_counts_nothing_twice(rows: Rows, task: ClaimedTask) -> None:
    limit = LogLimits(1000, 6)
    for _ in range(3):
        await report(rows, task, 0, ["aa", "bb"], limit)
    assert await kept(rows, task) == (0, 4, ("aa", "bb"))
    for _ in range(3):
        await report(rows, task, 1, ["bb", "cc", "dd"], limit)
    assert await kept(rows, task) == (1, 6, ("bb", "cc", "dd"))
    await report(rows, task, 0, ["aa", "bb"], limit)  # long dropped: it must not come back
    assert await kept(rows, task) == (1, 6, ("bb", "cc", "dd"))


async def test_the_byte_count_equals_the_rows_after_many_reports(rows: Rows, task: ClaimedTask) -> None:
    limit = LogLimits(40, 300)
    for n in range(60):
        await report(rows, task, 3 * n, [f"line {3 * n + k} " + "ö" * (n % 7) for k in range(3)], limit)
    dropped, counted, lines = await kept(rows, task)
    assert counted == sum(len(line.encode()) for line in lines) <= 300
    assert [int(line.split()[1]) for line in lines] == list(range(dropped, 180))


async def test_an_attempt_continues_the_log_of_the_previous_one(rows: Rows, task: ClaimedTask) -> None:
    async with rows.db.begin() as connection:
        await leases.finish(
            connection,
            task.lease,
            Retry("worker stopping"),
            Report(0, ("first",)),
            log_limits=WIDE,
            actor="worker 1",
        )
    again = await rows.claimed()
    assert again.log_next == 1
    await report(rows, again, again.log_next, ["second"])
    assert await kept(rows, again) == (0, 11, ("first", "second"))


async def fail_with_log(rows: Rows, task: ClaimedTask, lines: int) -> TaskId:
    async with rows.db.begin() as connection:
        news = Report(0, tuple(f"line {n}" for n in range(lines)))
        failure = Failure("bad-weather", "It rained.")
        keep = LogLimits(lines, 10_000_000)
        await leases.finish(connection, task.lease, failure, news, log_limits=keep, actor="worker 1")
    return task.lease.task_id


async def log_lines(rows: Rows) -> int:
    async with rows.db.read() as connection:
        return (await connection.execute(select(func.count()).select_from(TaskLogLine))).scalar_one()


async def test_clearing_a_task_of_10_000_lines_removes_them_within_a_second(
    rows: Rows, task: ClaimedTask
) -> None:
    await fail_with_log(rows, task, 10_000)
    assert await log_lines(rows) == 10_000
    begun = time.monotonic()
    async with rows.db.begin() as connection:
        cleared = await clear.clear_ended(connection, rows.dataset_id, tool_id=None)
    assert time.monotonic() - begun < 1
    assert cleared.tasks == 1
    assert await log_lines(rows) == 0


async def test_the_retention_of_tasks_removes_their_log_lines(rows: Rows, task: ClaimedTask) -> None:
    old = await fail_with_log(rows, task, 5)
    await rows.task()
    await fail_with_log(rows, await rows.claimed(), 7)
    async with rows.db.begin() as connection:
        await connection.execute(
            update(Task).where(Task.id == old).values(finished_at=db_now(plus_s=-61 * 24 * 3600))
        )
        removed = await retention.remove_old_tasks(
            connection, retention_days=60, clock_offset_s=0, max_count=10
        )
    assert removed.tasks == 1
    assert await log_lines(rows) == 7


async def test_a_deleted_task_keeps_its_log_until_it_is_cleared(rows: Rows, task: ClaimedTask) -> None:
    task_id = await fail_with_log(rows, task, 5)
    async with rows.db.begin() as connection:
        await cancel.cancel_or_delete(connection, rows.dataset_id, task_id, actor="owner")
        state = (await connection.execute(select(Task.state))).scalar_one()
    assert state == TaskState.DELETED
    assert await log_lines(rows) == 5
