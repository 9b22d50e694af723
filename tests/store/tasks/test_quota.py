"""The counts that quotas limit, with the global lock and without."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import update
from tests.support.rows import Rows, add_dataset, add_user

from aerotask.db.clock import db_now
from aerotask.db.models import Task
from aerotask.domain.ids import TaskId
from aerotask.domain.settings import LogLimits
from aerotask.store.queue import leases
from aerotask.store.queue.leases import NewArtifact, Report, Success
from aerotask.store.tasks import quota
from aerotask.store.tasks.quota import QuotaScope, QuotaUsage

DAY = timedelta(days=1)
BULK_TOOLS = frozenset({"bulk-download", "other-bulk"})
LATER = datetime.now(UTC) + timedelta(days=300)


async def usage(rows: Rows, *, excluding: TaskId | None = None) -> QuotaUsage:
    """The usage under the lock, which is the same as without."""
    scope = QuotaScope(rows.org_id, rows.user_id, DAY, BULK_TOOLS)
    async with rows.db.begin() as connection:
        free = await quota.read_usage(connection, scope)
        assert await quota.read_usage_under_lock(connection, scope) == free
        return await quota.read_usage_under_lock(connection, scope, excluding=excluding)


async def test_active_tasks_and_artifacts_are_counted_in_all_by_organization_and_by_user(rows: Rows) -> None:
    await rows.task(estimated_output_bytes=7)
    task = await rows.claimed()
    made = Success(artifacts=[NewArtifact("x", "text/plain", "key", 5, "00", ttl_s=60)])
    async with rows.db.begin() as connection:
        await leases.finish(
            connection, task.lease, made, Report(0), log_limits=LogLimits(10, 1000), actor="tests"
        )
    await rows.task(estimated_output_bytes=20, tool_id="bulk-download")
    mine = await rows.task(estimated_output_bytes=300, user_id=None)
    other = await add_dataset(rows.db, rows.user_id, "other")
    await other.task(estimated_output_bytes=4000)
    assert await usage(rows) == QuotaUsage(3, 2, 2, 1, 325, 0)
    assert await usage(rows, excluding=mine) == QuotaUsage(2, 1, 2, 1, 25, 0)


async def test_a_task_for_later_counts_only_as_scheduled_until_it_is_due(rows: Rows) -> None:
    await rows.task()
    later = await rows.task(scheduled_at=LATER, estimated_output_bytes=9, tool_id="bulk-download")
    colleague = await add_user(rows.db, "colleague")
    await rows.task(scheduled_at=LATER, user_id=colleague)
    await rows.task(scheduled_at=LATER, user_id=None)
    assert await usage(rows) == QuotaUsage(1, 1, 1, 0, 0, 1)
    assert await usage(rows, excluding=later) == QuotaUsage(1, 1, 1, 0, 0, 0)
    # Due, but not admitted yet: new submits of its user and organization mustn't overtake it.
    async with rows.db.begin() as connection:
        await connection.execute(update(Task).where(Task.id == later).values(due_at=db_now(plus_s=-1)))
    assert await usage(rows) == QuotaUsage(1, 2, 2, 1, 9, 0)


async def test_a_task_that_waits_for_a_retry_or_for_its_turn_stays_active(rows: Rows) -> None:
    for reason in ("retry-delay", "running-limit"):
        task = await rows.task()
        async with rows.db.begin() as connection:
            values = {"state": "Scheduled", "waits_for": reason, "due_at": db_now(plus_s=60)}
            await connection.execute(update(Task).where(Task.id == task).values(**values))
    assert await usage(rows) == QuotaUsage(2, 2, 2, 0, 0, 0)
