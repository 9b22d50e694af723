import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import select
from tests.support.rows import Rows

from aerotask.db.clock import db_now
from aerotask.db.models import Task
from aerotask.domain.settings import LogLimits
from aerotask.domain.states import TaskState, WaitReason
from aerotask.store.datasets import entry_writes
from aerotask.store.datasets.entries import EntryContent
from aerotask.store.queue import cancel, leases, logs
from aerotask.store.queue.claims import ClaimedTask, TaskInputRow
from aerotask.store.queue.leases import Failure, LeaseLost, NewArtifact, Report, Retry, Success
from aerotask.store.tasks import tasks
from aerotask.store.tasks.tasks import TaskFilter, TaskRow

KEEP = LogLimits(100, 100_000)


async def view(rows: Rows, task: ClaimedTask) -> TaskRow:
    async with rows.db.read() as connection:
        found = await tasks.find(connection, rows.dataset_id, task.lease.task_id)
    assert found is not None
    return found


async def report(rows: Rows, task: ClaimedTask, news: Report, keep: LogLimits = KEEP) -> None:
    async with rows.db.begin() as connection:
        await leases.report(connection, task.lease, news, log_limits=keep)


async def lines(rows: Rows, task: ClaimedTask) -> tuple[str, ...]:
    async with rows.db.read() as connection:
        return (await logs.read(connection, task.lease.task_id, since=0, take=1000)).lines


@pytest.fixture
async def task(rows: Rows) -> ClaimedTask:
    await rows.task()
    return await rows.claimed(worker_no=1)


async def test_a_report_adds_lines_and_progress(rows: Rows, task: ClaimedTask) -> None:
    await report(rows, task, Report(0, ("a", "b"), 40.0, "reading"))
    await report(rows, task, Report(2, ("c",), 30.0, "computing"))

    seen = await view(rows, task)
    assert await lines(rows, task) == ("a", "b", "c")
    assert seen.log_next == 3
    assert seen.log_tail == ["a", "b", "c"]
    assert seen.percent == 40.0  # never backwards
    assert seen.phase == "computing"


async def test_a_repeated_report_duplicates_nothing(rows: Rows, task: ClaimedTask) -> None:
    await report(rows, task, Report(0, ("a", "b")))
    await report(rows, task, Report(0, ("a", "b")))
    await report(rows, task, Report(1, ("b", "c")))
    assert await lines(rows, task) == ("a", "b", "c")
    assert (await view(rows, task)).log_next == 3


async def test_a_log_keeps_its_last_lines_and_counts_the_dropped(rows: Rows, task: ClaimedTask) -> None:
    await report(rows, task, Report(0, tuple("abcdef")), keep=LogLimits(4, 1000))
    async with rows.db.read() as connection:
        page = await logs.read(connection, task.lease.task_id, since=0, take=1000)
    assert (page.lines, page.dropped, page.cursor) == (tuple("cdef"), 2, 6)


@pytest.mark.parametrize(("since", "lines_", "cursor"), [(0, "ab", 2), (1, "bc", 3), (3, "", 3), (99, "", 3)])
async def test_a_cursor_continues_where_the_last_read_ended(
    rows: Rows, task: ClaimedTask, since: int, lines_: str, cursor: int
) -> None:
    await report(rows, task, Report(0, tuple("abc")))
    async with rows.db.read() as connection:
        page = await logs.read(connection, task.lease.task_id, since=since, take=2)
    assert (page.lines, page.cursor) == (tuple(lines_), cursor)


async def test_success_ends_the_task_with_its_artifact(rows: Rows, task: ClaimedTask) -> None:
    artifact = NewArtifact("x.tif", "image/tiff", "key", 5, "00ff", ttl_s=60)
    async with rows.db.begin() as connection:
        await leases.finish(
            connection,
            task.lease,
            Success(artifacts=[artifact], outputs=[{"path": "a", "hash": "b"}], result={"n": 1}),
            Report(0, ("done",)),
            log_limits=KEEP,
            actor="worker 1",
        )
    seen = await view(rows, task)
    assert seen.state is TaskState.SUCCEEDED
    assert seen.percent == 100
    assert seen.result == {"n": 1}
    assert seen.outputs == [{"path": "a", "hash": "b"}]
    assert seen.artifact is not None
    assert (seen.artifact.file_name, seen.artifact.sha256) == ("x.tif", "00ff")
    assert seen.finished_at is not None
    assert seen.log_tail == ["done"]


async def test_only_the_first_inputs_and_outputs_are_shown_but_all_are_counted(rows: Rows) -> None:
    inputs = tuple(TaskInputRow(f"{n:04}.tif", "00ff", f"blob {n}") for n in range(1001))
    async with rows.db.begin() as connection:
        read = {item.path: EntryContent(item.blob_key, "00ff", 1, "generic") for item in inputs}
        await entry_writes.put_files(connection, rows.dataset_id, read)
    await rows.task(inputs=inputs)
    task = await rows.claimed()
    async with rows.db.begin() as connection:
        outputs = [{"path": f"out/{n:04}", "hash": "00"} for n in range(1002)]
        await leases.finish(
            connection, task.lease, Success(outputs=outputs), Report(0), log_limits=KEEP, actor="worker 1"
        )
    seen = await view(rows, task)
    async with rows.db.read() as connection:
        [listed] = await tasks.list_newest(connection, TaskFilter(), skip=0, take=50)
    for row, shown in ((seen, 1000), (listed, 20)):
        assert (row.inputs_count, row.outputs_count) == (1001, 1002)
        assert [item["path"] for item in row.inputs] == [f"{n:04}.tif" for n in range(shown)]
        assert [item["path"] for item in row.outputs] == [f"out/{n:04}" for n in range(shown)]


async def test_failure_ends_the_task_with_code_and_message(rows: Rows, task: ClaimedTask) -> None:
    async with rows.db.begin() as connection:
        failure = Failure("bad-weather", "It rained.", retryable=True)
        await leases.finish(connection, task.lease, failure, Report(0), log_limits=KEEP, actor="worker 1")
    seen = await view(rows, task)
    assert seen.state is TaskState.FAILED
    assert (seen.error_code, seen.error_message, seen.error_retryable) == ("bad-weather", "It rained.", True)


async def test_a_retried_task_is_claimed_as_the_next_attempt(rows: Rows, task: ClaimedTask) -> None:
    await report(rows, task, Report(0, ("first attempt",)))
    async with rows.db.begin() as connection:
        await leases.finish(
            connection,
            task.lease,
            Retry("worker stopping"),
            Report(1, ("handed over",)),
            log_limits=KEEP,
            actor="worker 1",
        )
    again = await rows.claimed(worker_no=2)
    assert (again.lease.attempt, again.failed_attempts, again.log_next) == (2, 0, 2)


async def test_a_delayed_retry_waits_in_scheduled(rows: Rows, task: ClaimedTask) -> None:
    async with rows.db.begin() as connection:
        await leases.finish(
            connection,
            task.lease,
            Retry("tool crashed", delay_s=60, counts_as_failed=True),
            Report(0),
            log_limits=KEEP,
            actor="worker 1",
        )
    seen = await view(rows, task)
    assert (seen.state, seen.waits_for) == (TaskState.SCHEDULED, WaitReason.RETRY)
    assert await rows.claim() is None


async def test_a_worker_without_the_lease_changes_nothing(rows: Rows, task: ClaimedTask) -> None:
    async with rows.db.begin() as connection:
        await cancel.cancel_or_delete(connection, rows.dataset_id, task.lease.task_id, actor="owner")

    with pytest.raises(LeaseLost):
        await report(rows, task, Report(0, ("too late",), 99.0))
    with pytest.raises(LeaseLost):
        async with rows.db.begin() as connection:
            await leases.finish(
                connection, task.lease, Success(), Report(0, ("too late",)), log_limits=KEEP, actor="worker 1"
            )

    seen = await view(rows, task)
    assert seen.state is TaskState.DELETED
    assert await lines(rows, task) == ()


async def test_renewing_returns_the_leases_that_are_still_held(rows: Rows, task: ClaimedTask) -> None:
    await rows.task()
    other = await rows.claimed(worker_no=1)
    async with rows.db.begin() as connection:
        await cancel.cancel_or_delete(connection, rows.dataset_id, other.lease.task_id, actor="owner")
    async with rows.db.begin() as connection:
        tokens = [task.lease.token, other.lease.token]
        held = await leases.renew(connection, tokens, worker_no=1, ttl_s=30)
    assert held == {task.lease.token}


async def test_a_lease_with_a_locked_row_is_held_and_does_not_block_the_others(
    rows: Rows, task: ClaimedTask
) -> None:
    await rows.task()
    locked = await rows.claimed(worker_no=1, ttl_s=30)
    tokens = [task.lease.token, locked.lease.token]
    async with rows.db.begin() as somebody:
        await somebody.execute(select(Task.id).where(Task.id == locked.lease.task_id).with_for_update())
        async with asyncio.timeout(20), rows.db.begin() as connection:
            assert await leases.renew(connection, tokens, worker_no=1, ttl_s=3600) == set(tokens)
    async with rows.db.read() as connection:
        query = select(Task.id).where(Task.lease_until > db_now(plus_s=1800))
        assert list((await connection.execute(query)).scalars()) == [task.lease.task_id]


async def test_a_lease_that_its_worker_does_not_know_is_not_renewed(rows: Rows, task: ClaimedTask) -> None:
    await rows.task()
    unknown = await rows.claimed(worker_no=1, ttl_s=30)
    async with rows.db.begin() as connection:
        await leases.renew(connection, [task.lease.token], worker_no=1, ttl_s=3600)
    async with rows.db.read() as connection:
        query = select(Task.id, (Task.lease_until - db_now()).label("left"))
        left = {row.id: row.left for row in await connection.execute(query)}
    assert left[task.lease.task_id] > timedelta(minutes=50)
    assert left[unknown.lease.task_id] < timedelta(minutes=1)


async def test_only_a_running_task_has_a_lease(rows: Rows, task: ClaimedTask) -> None:
    await rows.task()
    async with rows.db.read() as connection:
        states = (await connection.execute(select(Task.state, Task.lease_token))).all()
    assert sorted((state, token is not None) for state, token in states) == [
        ("Created", False),
        ("Processing", True),
    ]
