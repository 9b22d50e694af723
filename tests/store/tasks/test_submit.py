import asyncio
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update
from tests.support.rows import Rows

from aerotask.db.clock import db_now
from aerotask.db.models import Artifact, Task
from aerotask.domain.errors import LimitReached, TooLarge
from aerotask.domain.ids import TaskId, UserId, new_id
from aerotask.domain.settings import LogLimits, Quotas
from aerotask.sdk import QuotaClass
from aerotask.services.tasks.quota import QuotaRequest, enforce, raise_if_oversized
from aerotask.store.queue import leases
from aerotask.store.queue.leases import NewArtifact, Report, Success
from aerotask.store.tasks import submit
from aerotask.store.tasks.submit import DedupMatch, Duplicate, NewTask

DAY = timedelta(days=1)
KEY = b"the same"


async def twin(rows: Rows, **values: Any) -> Duplicate | None:
    options = {"lookback": DAY, "needs_artifact": True, "active_only": False, **values}
    async with rows.db.read() as connection:
        return await submit.find_duplicate(connection, DedupMatch(rows.dataset_id, KEY, **options))


async def succeed(rows: Rows) -> None:
    task = await rows.claimed()
    async with rows.db.begin() as connection:
        await leases.finish(
            connection,
            task.lease,
            Success(artifacts=[NewArtifact("x", "text/plain", "key", 5, "00", ttl_s=60)]),
            Report(0),
            log_limits=LogLimits(10, 1000),
            actor="tests",
        )


async def test_a_waiting_and_a_running_task_are_duplicates_of_an_identical_submit(rows: Rows) -> None:
    task_id = await rows.task(dedup_key=KEY, estimated_output_bytes=9)
    assert await twin(rows) == Duplicate(task_id, 9)
    await rows.claimed()
    assert await twin(rows) == Duplicate(task_id, 9)


async def test_a_task_with_another_key_is_no_duplicate(rows: Rows) -> None:
    await rows.task(dedup_key=b"another")
    assert await twin(rows) is None


async def test_a_succeeded_task_is_a_duplicate_while_it_is_recent_and_has_its_artifact(rows: Rows) -> None:
    task_id = await rows.task(dedup_key=KEY)
    await succeed(rows)
    assert await twin(rows) == Duplicate(task_id, 0)
    assert await twin(rows, lookback=timedelta(0)) is None
    async with rows.db.begin() as connection:
        await connection.execute(update(Artifact).values(expires_at=db_now(plus_s=-1)))
    assert await twin(rows) is None
    assert await twin(rows, needs_artifact=False) == Duplicate(task_id, 0)


async def test_only_active_tasks_are_duplicates_if_the_tool_changes_the_dataset(rows: Rows) -> None:
    await rows.task(dedup_key=KEY)
    await succeed(rows)
    assert await twin(rows, active_only=True) is None


BULK_TOOLS = frozenset({"bulk-download", "other-bulk"})


def quotas(**values: int) -> Quotas:
    generous = dict.fromkeys(
        (
            "output_bytes",
            "active",
            "active_per_org",
            "active_per_user",
            "active_anonymous",
            "bulk_downloads_per_user",
            "artifact_bytes_per_org_day",
        ),
        10**6,
    )
    return Quotas(**{**generous, **values})


async def admitted(
    rows: Rows, limits: Quotas, *, user_id: UserId | None = None, **values: Any
) -> TaskId | LimitReached:
    """Insert a task within its quotas in one transaction, as a submit does."""
    task = NewTask(
        id=TaskId(new_id()),
        org_id=rows.org_id,
        dataset_id=rows.dataset_id,
        user_id=user_id,
        tool_id=values.pop("tool_id", "nothing"),
        tool_version="1",
        path=None,
        params={},
        dedup_key=new_id().bytes,
        estimated_output_bytes=values.pop("estimated_output_bytes", 0),
        memory_bytes=0,
        writes=(),
        inputs=(),
    )
    try:
        async with rows.db.begin() as connection:
            assert await submit.add(connection, task, actor="tests") == set()
            is_bulk = task.tool_id in BULK_TOOLS
            request = QuotaRequest(
                task.org_id,
                task.user_id,
                task.estimated_output_bytes,
                QuotaClass.BULK if is_bulk else None,
                BULK_TOOLS if is_bulk else frozenset(),
            )
            await enforce(connection, limits, request, excluding=task.id)
    except LimitReached as refused:
        return refused
    return task.id


@pytest.mark.parametrize(
    ("limit", "name"),
    [
        ("active", "maxActiveTasks"),
        ("active_per_org", "maxActiveTasksPerOrg"),
        ("active_per_user", "maxActiveTasksPerUser"),
    ],
)
async def test_200_racing_submits_at_a_limit_of_10_admit_exactly_10(
    rows: Rows, limit: str, name: str
) -> None:
    answers = await asyncio.gather(
        *(admitted(rows, quotas(**{limit: 10}), user_id=rows.user_id) for _ in range(200))
    )
    refusals = [answer for answer in answers if isinstance(answer, LimitReached)]
    assert len(answers) - len(refusals) == 10
    assert {(r.limit_name, r.limit, r.current, r.retry_after_s > 0) for r in refusals} == {
        (name, 10, 10, True)
    }


async def test_anonymous_callers_share_one_quota(rows: Rows) -> None:
    assert not isinstance(await admitted(rows, quotas(active_anonymous=1)), LimitReached)
    assert isinstance(await admitted(rows, quotas(active_anonymous=1)), LimitReached)


async def test_the_tools_of_a_quota_class_share_its_limit(rows: Rows) -> None:
    limits = quotas(bulk_downloads_per_user=1)
    first = await admitted(rows, limits, user_id=rows.user_id, tool_id="bulk-download")
    second = await admitted(rows, limits, user_id=rows.user_id, tool_id="other-bulk")
    other = await admitted(rows, limits, user_id=rows.user_id, tool_id="nothing")
    assert not isinstance(first, LimitReached)
    assert isinstance(second, LimitReached)
    assert not isinstance(other, LimitReached)


async def test_an_organizations_daily_artifacts_are_limited_including_expected_ones(rows: Rows) -> None:
    await rows.task()
    await succeed(rows)  # 5 bytes made
    limits = quotas(artifact_bytes_per_org_day=20)
    first = await admitted(rows, limits, user_id=rows.user_id, estimated_output_bytes=10)
    second = await admitted(rows, limits, user_id=rows.user_id, estimated_output_bytes=6)
    assert not isinstance(first, LimitReached)
    assert isinstance(second, LimitReached)
    assert second.limit_name == "maxArtifactBytesPerOrgDay"
    assert second.current == 15
    async with rows.db.begin() as connection:
        await connection.execute(update(Task).values(finished_at=db_now() - 2 * DAY))
    third = await admitted(rows, limits, user_id=rows.user_id, estimated_output_bytes=6)
    assert not isinstance(third, LimitReached)


def test_an_output_beyond_the_limit_is_rejected_before_usage_is_counted() -> None:
    raise_if_oversized(quotas(output_bytes=10), 10)
    with pytest.raises(TooLarge):
        raise_if_oversized(quotas(output_bytes=10), 11)
