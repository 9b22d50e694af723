"""Counts that quotas limit: active and scheduled tasks, and bytes of artifacts.

A task that was scheduled for later is not active before `store.queue.admission` admits it, once it is due and the quotas
have room. While it waits for that, it counts for its user and its organization, so that new submits don't overtake it,
but not for the whole system, where one user's schedule would keep others from submitting.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import BigInteger, Text, any_, bindparam, false, func, literal_column, select, true, union_all
from sqlalchemy.dialects.postgresql import ARRAY, INTERVAL
from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.db.async_commit import ASYNC_COMMIT
from aerotask.db.clock import tx_now
from aerotask.db.locks import LockSpace
from aerotask.db.models import ADMITTED, ANYBODY, UNADMITTED, Task
from aerotask.domain.ids import OrgId, TaskId, UserId


@dataclass(frozen=True, slots=True)
class QuotaScope:
    """Selects the tasks that a submitter's quotas count."""

    org_id: OrgId
    user_id: UserId | None
    period: timedelta
    """The time for which artifacts count after their creation."""
    class_tools: frozenset[str] = frozenset()
    """The ids of the tools that share the submitted one's quota class."""

    def bindings(self) -> dict[str, Any]:
        """The parameters of the queries."""
        return {
            "org_id": self.org_id,
            "user_id": self.user_id,
            "period": self.period,
            "class_tools": list(self.class_tools),
        }


@dataclass(frozen=True, slots=True)
class QuotaUsage:
    """Usage that one submitter's quotas limit: active and scheduled tasks, and bytes of artifacts."""

    active: int
    active_in_org: int
    active_of_user: int
    active_in_class_of_user: int
    """Tasks of the tools that share the submitted one's quota class."""
    artifact_bytes_in_org: int
    """Bytes of recent artifacts of the organization, and the estimated bytes of its active tasks."""
    scheduled_of_user: int
    """Tasks that are not due yet."""


_IN_ORG = Task.org_id == bindparam("org_id")
_ARTIFACT_BYTES = (
    select(func.coalesce(func.sum(Task.artifact_bytes), 0))
    .where(
        _IN_ORG,
        Task.artifact_bytes
        > literal_column("0"),  # a parameter would keep Postgres from using the partial index
        Task.finished_at > tx_now() - bindparam("period", type_=INTERVAL),
    )
    .scalar_subquery()
)
# The statement's clock, since an index can't be used with a volatile one.
_NOW = func.statement_timestamp()
_SCHEDULED = (
    select(func.count())
    .where(
        UNADMITTED,
        func.coalesce(Task.user_id, ANYBODY)
        == func.coalesce(bindparam("user_id", type_=Task.user_id.type), ANYBODY),
        Task.due_at > _NOW,
    )
    .scalar_subquery()
)
_COLUMNS = (Task.org_id, Task.user_id, Task.tool_id, Task.estimated_output_bytes)
_COUNTED = union_all(
    select(*_COLUMNS, true().label("admitted")).where(ADMITTED),
    select(*_COLUMNS, false().label("admitted")).where(UNADMITTED, Task.due_at <= _NOW),
).subquery("counted")
_C = _COUNTED.c
_COUNTED_IN_ORG = _C.org_id == bindparam("org_id")
_COUNTED_OF_USER = _C.user_id.is_not_distinct_from(bindparam("user_id", type_=Task.user_id.type))
_COUNTED_IN_CLASS = _C.tool_id == any_(bindparam("class_tools", type_=ARRAY(Text)))
USAGE = select(
    func.count().filter(_C.admitted).label("active"),
    func.count().filter(_COUNTED_IN_ORG).label("active_in_org"),
    func.count().filter(_COUNTED_OF_USER).label("active_of_user"),
    func.count().filter(_COUNTED_OF_USER, _COUNTED_IN_CLASS).label("active_in_class_of_user"),
    (func.coalesce(func.sum(_C.estimated_output_bytes).filter(_COUNTED_IN_ORG), 0) + _ARTIFACT_BYTES)
    .cast(BigInteger)
    .label("artifact_bytes_in_org"),
    _SCHEDULED.label("scheduled_of_user"),
).select_from(_COUNTED)
"""The members of `QuotaUsage`, for the bindings of a `QuotaScope`."""


async def read_usage(connection: AsyncConnection, scope: QuotaScope) -> QuotaUsage:
    """Counts tasks, and artifacts of the period; anonymous callers count as one user."""
    return QuotaUsage(*(await connection.execute(USAGE, scope.bindings())).one())


# Migration 0010, which creates the function, explains it.
_USAGE_UNDER_LOCK = select(
    ASYNC_COMMIT,
    *func.quota_usage_under_lock(
        literal_column(str(int(LockSpace.QUOTA))),
        bindparam("org_id", type_=Task.org_id.type),
        bindparam("user_id", type_=Task.user_id.type),
        bindparam("period", type_=INTERVAL),
        bindparam("class_tools", type_=ARRAY(Text)),
        bindparam("excluding", type_=Task.id.type),
    )
    .table_valued(*(column.name for column in USAGE.selected_columns))
    .c,
)


async def read_usage_under_lock(
    connection: AsyncConnection, scope: QuotaScope, *, excluding: TaskId | None = None
) -> QuotaUsage:
    """As `read_usage`, without the task `excluding`, under the global quota lock.

    The lock is released by the commit, without waiting for its WAL flush (`db/async_commit.py`).
    """
    bindings = {**scope.bindings(), "excluding": excluding}
    _, *usage = (await connection.execute(_USAGE_UNDER_LOCK, bindings)).one()
    return QuotaUsage(*usage)
