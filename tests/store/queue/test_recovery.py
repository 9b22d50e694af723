from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection
from tests.support.rows import Rows

from aerotask.db.clock import db_now
from aerotask.db.locks import LockSpace
from aerotask.db.models import Task
from aerotask.domain.states import TaskState
from aerotask.store.queue import recovery


async def recover(rows: Rows, *, max_attempts: int = 2, settle_s: float = -1) -> list[recovery.RecoveredTask]:
    async with rows.db.begin() as connection:
        found = await recovery.any_lost(connection, quiet_s=1, settle_s=settle_s)
        recovered = await recovery.recover_lost(
            connection, max_attempts=max_attempts, quiet_s=1, settle_s=settle_s
        )
    assert found == bool(recovered)
    return recovered


async def fall_silent(rows: Rows, *, for_s: float, lease_left_s: float) -> None:
    async with rows.db.begin() as connection:
        await connection.execute(
            update(Task).values(renewed_at=db_now(plus_s=-for_s), lease_until=db_now(plus_s=lease_left_s))
        )


async def hold_lock(connection: AsyncConnection, worker_no: int) -> None:
    await connection.execute(select(func.pg_advisory_lock(int(LockSpace.WORKER), worker_no)))


async def test_a_silent_worker_without_a_session_is_lost_before_its_lease_expires(rows: Rows) -> None:
    task_id = await rows.task()
    await rows.claimed(worker_no=5)
    await fall_silent(rows, for_s=2, lease_left_s=30)

    recovered = await recover(rows)

    assert [(r.task_id, r.state) for r in recovered] == [(task_id, TaskState.ENQUEUED)]
    again = await rows.claimed(worker_no=6)
    assert (again.lease.attempt, again.failed_attempts) == (2, 1)


async def test_a_silent_worker_with_a_session_keeps_its_task_until_the_lease_expires(
    rows: Rows,
) -> None:
    await rows.task()
    await rows.claimed(worker_no=5)
    async with rows.db.read() as session:
        await hold_lock(session, 5)
        await fall_silent(rows, for_s=2, lease_left_s=30)
        assert await recover(rows) == []
        await fall_silent(rows, for_s=32, lease_left_s=-0.1)
        assert len(await recover(rows)) == 1


async def test_a_recent_heartbeat_outweighs_a_missing_session(rows: Rows) -> None:
    await rows.task()
    await rows.claimed(worker_no=5)
    await fall_silent(rows, for_s=0, lease_left_s=30)
    assert await recover(rows) == []


async def test_missing_sessions_are_ignored_just_after_postgres_has_started(rows: Rows) -> None:
    await rows.task()
    await rows.claimed(worker_no=5)
    await fall_silent(rows, for_s=2, lease_left_s=30)
    assert await recover(rows, settle_s=1e6) == []


async def test_a_task_that_loses_its_worker_too_often_fails(rows: Rows) -> None:
    await rows.task()
    for _ in range(2):
        await rows.claimed(worker_no=5)
        await fall_silent(rows, for_s=2, lease_left_s=30)
        recovered = await recover(rows, max_attempts=2)
    assert [r.state for r in recovered] == [TaskState.FAILED]
    async with rows.db.read() as connection:
        code = (await connection.execute(select(Task.error_code))).scalar_one()
    assert code == "worker-lost"


async def test_a_second_lost_worker_delays_the_retry(rows: Rows) -> None:
    await rows.task()
    for _ in range(2):
        await rows.claimed(worker_no=5)
        await fall_silent(rows, for_s=2, lease_left_s=30)
        recovered = await recover(rows, max_attempts=3)
    assert [r.state for r in recovered] == [TaskState.SCHEDULED]
    async with rows.db.read() as connection:
        soon = select(Task.waits_for, Task.due_at.between(db_now(), db_now(plus_s=1)))
        assert tuple((await connection.execute(soon)).one()) == ("retry-delay", True)


async def test_recovering_twice_changes_nothing_more(rows: Rows) -> None:
    await rows.task()
    await rows.claimed(worker_no=5)
    await fall_silent(rows, for_s=2, lease_left_s=30)
    found = [len(await recover(rows)) for _ in range(2)]
    assert found == [1, 0]
