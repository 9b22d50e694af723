"""Claim of the next tasks to run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from sqlalchemy import Integer, Text, Uuid, bindparam, func, select, text
from sqlalchemy.dialects.postgresql import INTERVAL
from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.db.clock import db_now
from aerotask.db.engine import AnyRow
from aerotask.db.locks import LockSpace, take
from aerotask.db.models import Task, TaskInput, in_states
from aerotask.domain.ids import DatasetId, LeaseToken, OrgId, TaskId, UserId, new_id
from aerotask.domain.states import WAITING, TaskState
from aerotask.store.queue.leases import Lease
from aerotask.store.queue.transitions import move


@dataclass(frozen=True, slots=True)
class TaskInputRow:
    """An input of a task: an entry's path and the content that it had at the submit."""

    path: str
    sha256: str
    blob_key: str


@dataclass(frozen=True, slots=True)
class ClaimedTask:
    """A claimed task with everything that a worker needs to run it."""

    lease: Lease
    org_id: OrgId
    dataset_id: DatasetId
    user_id: UserId | None
    tool_id: str
    tool_version: str
    params: dict[str, Any]
    memory_bytes: int
    writes: tuple[str, ...]
    failed_attempts: int
    log_next: int
    callback_url: str | None
    inputs: tuple[TaskInputRow, ...] = ()
    """Empty until `with_inputs` has read them: a task may have 100,000."""


# Fair share: first between organizations, then between users, then by age. A task is held back by its user's
# concurrency limit, and by a running task that changes the same paths of the same dataset.
#
# A claim holds a lock of the whole system, so it must not read every waiting task: `waiting` walks from
# submitter to submitter, one step of `ix_tasks_submitters` each, and `first` picks each one's oldest task that
# may run. The best of these is locked last; if another transaction has it locked, the next task of the same
# submitter replaces it. The clock is the statement's, since the index can't be used with a volatile one.
_SUBMITTER = "coalesce(user_id, '00000000-0000-0000-0000-000000000000')"
_WAITING = "state IN ('Created', 'Enqueued', 'Scheduled')"
# Tasks that were scheduled for later must be admitted first.
_ADMITTED = "waits_for IS DISTINCT FROM 'scheduled-time'"
_MAY_RUN = f"""
    {_WAITING} AND (t.org_id, {_SUBMITTER}) = (s.org_id, s.submitter) AND t.due_at <= statement_timestamp()
    AND t.{_ADMITTED}
    AND (t.writes = '{{}}' OR NOT EXISTS (
        SELECT 1 FROM running r, unnest(r.writes) mine, unnest(t.writes) theirs
        WHERE r.dataset_id = t.dataset_id
          AND (mine IN (theirs, '') OR theirs = ''
               OR starts_with(mine, theirs || '/') OR starts_with(theirs, mine || '/'))))
    ORDER BY t.due_at, t.id LIMIT 1
"""  # noqa: S608  our own constants
_NEXT = text(f"""
    WITH RECURSIVE running AS MATERIALIZED (
        SELECT org_id, {_SUBMITTER} AS submitter, dataset_id, writes FROM tasks WHERE state = 'Processing'
    ), per_org AS (
        SELECT org_id, count(*) AS n FROM running GROUP BY org_id
    ), per_user AS (
        SELECT submitter, count(*) AS n FROM running GROUP BY submitter
    ), waiting AS (
        (SELECT org_id, {_SUBMITTER} AS submitter, due_at FROM tasks WHERE {_WAITING}
         ORDER BY org_id, {_SUBMITTER}, due_at, id LIMIT 1)
        UNION ALL
        SELECT further.* FROM waiting w CROSS JOIN LATERAL (
            SELECT org_id, {_SUBMITTER}, due_at FROM tasks
            WHERE {_WAITING} AND (org_id, {_SUBMITTER}) > (w.org_id, w.submitter)
            ORDER BY org_id, {_SUBMITTER}, due_at, id LIMIT 1) further
    ), first AS MATERIALIZED (
        SELECT s.org_id, s.submitter FROM waiting s
        LEFT JOIN per_org o ON o.org_id = s.org_id
        LEFT JOIN per_user u ON u.submitter = s.submitter
        CROSS JOIN LATERAL (SELECT t.due_at, t.id FROM tasks t WHERE {_MAY_RUN}) oldest
        WHERE s.due_at <= statement_timestamp() AND coalesce(u.n, 0) < :per_user
        ORDER BY coalesce(o.n, 0), coalesce(u.n, 0), oldest.due_at, oldest.id
    )
    SELECT taken.id FROM first s
    CROSS JOIN LATERAL (SELECT t.id FROM tasks t WHERE {_MAY_RUN} FOR UPDATE OF t SKIP LOCKED) taken
    LIMIT 1
""")  # noqa: S608  as above

# Built once: building a statement costs more than running it.
_CLAIM = (
    move(
        TaskState.PROCESSING,
        actor=bindparam("actor", type_=Text),
        reason="claimed",
        attempt=Task.attempt + 1,
        lease_token=bindparam("token", type_=Uuid),
        lease_until=func.clock_timestamp() + bindparam("ttl", type_=INTERVAL),
        renewed_at=db_now(),
        worker_no=bindparam("worker", type_=Integer),
        started_at=db_now(),
        percent=0,
        phase=None,
        error_code=None,
        error_message=None,
        error_retryable=None,
    )
    .where(
        Task.id == _NEXT.bindparams(bindparam("per_user", type_=Integer)).columns(id=Uuid).scalar_subquery()
    )
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
        Task.failed_attempts.label("failed_attempts"),
        Task.log_next,
        Task.callback_url,
    )
)


_ANY_DUE = select(Task.id).where(in_states(WAITING), text(_ADMITTED), Task.due_at <= db_now()).limit(1)


async def any_due(connection: AsyncConnection) -> bool:
    """Whether any task is due; a cheap check before a claim."""
    return (await connection.execute(_ANY_DUE)).first() is not None


async def claim_next(
    connection: AsyncConnection, *, worker_no: int, ttl_s: float, max_running_per_user: int, max_count: int
) -> list[ClaimedTask]:
    """Claim up to `max_count` tasks that may run; only one worker of the system claims at a time."""
    await take(connection, LockSpace.CLAIM)
    params = {
        "actor": f"worker {worker_no}",
        "worker": worker_no,
        "ttl": timedelta(seconds=ttl_s),
        "per_user": max_running_per_user,
    }
    claimed: list[ClaimedTask] = []
    while len(claimed) < max_count:
        # One by one: each claimed task counts towards the limits of the next.
        row = (await connection.execute(_CLAIM, {**params, "token": new_id()})).one_or_none()
        if row is None:
            break
        claimed.append(_claimed(row))
    return claimed


def _claimed(row: AnyRow) -> ClaimedTask:
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
        failed_attempts=row.failed_attempts,
        log_next=row.log_next,
        callback_url=row.callback_url,
    )


_INPUTS = (
    select(TaskInput.path, TaskInput.sha256, TaskInput.blob_key)
    .where(TaskInput.task_id == bindparam("task"))
    .order_by(TaskInput.path)
)


async def with_inputs(connection: AsyncConnection, task: ClaimedTask) -> ClaimedTask:
    """The task with its inputs."""
    rows = await connection.execute(_INPUTS, {"task": task.lease.task_id})
    return replace(task, inputs=tuple(TaskInputRow(*row) for row in rows))
