"""Choosing the next task to run, and taking it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.domain.ids import DatasetId, LeaseToken, OrgId, TaskId, UserId, new_id
from aerotask.domain.states import WAITING, TaskState
from aerotask.store.clock import db_now
from aerotask.store.leases import Lease
from aerotask.store.locks import LockSpace, take
from aerotask.store.models import Task, TaskInput, in_states
from aerotask.store.transitions import move


@dataclass(frozen=True, slots=True)
class Input:
    """A file that a task reads."""

    path: str
    sha256: str
    blob_key: str


@dataclass(frozen=True, slots=True)
class ClaimedTask:
    """Everything a worker needs to run a task."""

    lease: Lease
    org_id: OrgId
    dataset_id: DatasetId
    user_id: UserId | None
    tool_id: str
    tool_version: str
    params: dict[str, Any]
    memory_bytes: int
    writes: tuple[str, ...]
    strikes: int
    log_next: int
    inputs: tuple[Input, ...]


# Fair first between organizations, then between users, then by age. A user's running limit holds a task
# back; so does a running task that changes the same paths of the same dataset.
_NEXT = text("""
    WITH running AS MATERIALIZED (
        SELECT org_id, user_id, dataset_id, writes FROM tasks WHERE state = 'Processing'
    ), per_org AS (
        SELECT org_id, count(*) AS n FROM running GROUP BY org_id
    ), per_user AS (
        SELECT user_id, count(*) AS n FROM running GROUP BY user_id
    )
    SELECT t.id FROM tasks t
    LEFT JOIN per_org o ON o.org_id = t.org_id
    LEFT JOIN per_user u ON u.user_id IS NOT DISTINCT FROM t.user_id
    WHERE t.state IN ('Created', 'Enqueued', 'Scheduled') AND t.due_at <= clock_timestamp()
      AND coalesce(u.n, 0) < :per_user
      AND (t.writes = '{}' OR NOT EXISTS (
          SELECT 1 FROM running r, unnest(r.writes) mine, unnest(t.writes) theirs
          WHERE r.dataset_id = t.dataset_id
            AND (mine IN (theirs, '') OR theirs = ''
                 OR starts_with(mine, theirs || '/') OR starts_with(theirs, mine || '/'))))
    ORDER BY coalesce(o.n, 0), coalesce(u.n, 0), t.due_at, t.id
    LIMIT 1
    FOR UPDATE OF t SKIP LOCKED
""")


async def any_due(connection: AsyncConnection) -> bool:
    """Whether a task waits whose time has come; a cheap look before a claim."""
    query = select(Task.id).where(in_states(WAITING), Task.due_at <= db_now()).limit(1)
    return (await connection.execute(query)).first() is not None


async def claim_next(
    connection: AsyncConnection, *, worker_no: int, ttl_s: float, running_per_user: int
) -> ClaimedTask | None:
    """Take the next task that may run, one claim at a time in the whole system; None if there is none."""
    await take(connection, LockSpace.CLAIM)
    found = (await connection.execute(_NEXT, {"per_user": running_per_user})).scalar_one_or_none()
    if found is None:
        return None
    statement = (
        move(
            TaskState.PROCESSING,
            by=f"worker {worker_no}",
            reason="claimed",
            attempt=Task.attempt + 1,
            lease_token=new_id(),
            lease_until=db_now(plus_s=ttl_s),
            renewed_at=db_now(),
            worker_no=worker_no,
            started_at=db_now(),
            percent=0,
            phase=None,
            error_code=None,
            error_message=None,
            error_retryable=None,
        )
        .where(Task.id == found)
        .returning(
            Task.id,
            Task.lease_token,
            Task.attempt,
            Task.org_id,
            Task.dataset_id,
            Task.user_id,
            Task.tool_id,
            Task.tool_version,
            Task.params,
            Task.memory_bytes,
            Task.writes,
            Task.strikes,
            Task.log_next,
        )
    )
    row = (await connection.execute(statement)).one()
    return ClaimedTask(
        lease=Lease(TaskId(row.id), LeaseToken(row.lease_token), row.attempt),
        org_id=OrgId(row.org_id),
        dataset_id=DatasetId(row.dataset_id),
        user_id=None if row.user_id is None else UserId(row.user_id),
        tool_id=row.tool_id,
        tool_version=row.tool_version,
        params=row.params,
        memory_bytes=row.memory_bytes,
        writes=tuple(row.writes),
        strikes=row.strikes,
        log_next=row.log_next,
        inputs=await _inputs(connection, TaskId(row.id)),
    )


async def _inputs(connection: AsyncConnection, task_id: TaskId) -> tuple[Input, ...]:
    rows = await connection.execute(
        select(TaskInput.path, TaskInput.sha256, TaskInput.blob_key)
        .where(TaskInput.task_id == task_id)
        .order_by(TaskInput.path)
    )
    return tuple(Input(*row) for row in rows)
