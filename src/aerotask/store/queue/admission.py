"""Admission of tasks that were scheduled for later: once due, they become active as far as the quotas have room."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import BigInteger, Integer, Text, Uuid, bindparam, select, text
from sqlalchemy.dialects.postgresql import ARRAY, INTERVAL
from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.db.async_commit import commit_async
from aerotask.db.locks import LockSpace, take
from aerotask.db.models import ADMITTED, UNADMITTED, Task
from aerotask.domain.settings import Quotas
from aerotask.domain.states import TaskState
from aerotask.store.queue.transitions import move


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """The limits that tasks must keep to be admitted, as a submit must."""

    quotas: Quotas
    period: timedelta
    """The time for which artifacts count after their creation."""
    bulk_tools: Sequence[str]
    """The ids of the tools whose quota class is bulk."""

    def bindings(self) -> dict[str, Any]:
        """The parameters of the query."""
        return {
            "active": self.quotas.active,
            "per_org": self.quotas.active_per_org,
            "per_user": self.quotas.active_per_user,
            "anonymous": self.quotas.active_anonymous,
            "bulk_per_user": self.quotas.bulk_downloads_per_user,
            "bytes_per_org": self.quotas.artifact_bytes_per_org_day,
            "bulk_tools": list(self.bulk_tools),
            "period": self.period,
        }


# Limits are applied one after the other, from the narrowest to the widest, each only to tasks that passed the ones
# before: so what one limit holds back takes no room of the next from others. In each, the oldest due go first.
_ADMISSIBLE = text(f"""
    WITH active AS MATERIALIZED (
        SELECT org_id, user_id, tool_id = ANY (:bulk_tools) AS bulk, estimated_output_bytes FROM tasks
        WHERE {ADMITTED.text}
    ), due AS MATERIALIZED (
        SELECT id, due_at, org_id, user_id, tool_id = ANY (:bulk_tools) AS bulk, estimated_output_bytes FROM tasks
        WHERE {UNADMITTED.text} AND due_at <= statement_timestamp()
    ), in_class AS (
        SELECT d.*, row_number() OVER (PARTITION BY d.user_id, d.bulk ORDER BY d.due_at, d.id) + (
            SELECT count(*) FROM active a WHERE a.bulk AND a.user_id IS NOT DISTINCT FROM d.user_id) AS n_in_class
        FROM due d
    ), of_user AS (
        SELECT c.*, row_number() OVER (PARTITION BY c.user_id ORDER BY c.due_at, c.id) + (
            SELECT count(*) FROM active a WHERE a.user_id IS NOT DISTINCT FROM c.user_id) AS n_of_user
        FROM in_class c WHERE NOT c.bulk OR c.n_in_class <= :bulk_per_user
    ), in_org AS (
        SELECT u.*, row_number() OVER oldest + (
            SELECT count(*) FROM active a WHERE a.org_id = u.org_id) AS n_in_org,
        sum(u.estimated_output_bytes) OVER oldest + (
            SELECT coalesce(sum(a.estimated_output_bytes), 0) FROM active a WHERE a.org_id = u.org_id) + (
            SELECT coalesce(sum(made.artifact_bytes), 0) FROM tasks made
            WHERE made.org_id = u.org_id AND made.artifact_bytes > 0
                  AND made.finished_at > now() - CAST(:period AS interval)) AS bytes_in_org
        FROM of_user u
        WHERE u.n_of_user <= CASE WHEN u.user_id IS NULL THEN :anonymous ELSE :per_user END
        WINDOW oldest AS (PARTITION BY u.org_id ORDER BY u.due_at, u.id)
    ), in_all AS (
        SELECT o.id, row_number() OVER (ORDER BY o.due_at, o.id) + (SELECT count(*) FROM active) AS n
        FROM in_org o WHERE o.n_in_org <= :per_org AND o.bytes_in_org <= :bytes_per_org
    )
    SELECT id FROM in_all WHERE n <= :active
""").bindparams(  # noqa: S608  our own constants
    bindparam("bulk_tools", type_=ARRAY(Text)),
    bindparam("period", type_=INTERVAL),
    bindparam("bytes_per_org", type_=BigInteger),
    *(
        bindparam(name, type_=Integer)
        for name in ("bulk_per_user", "anonymous", "per_user", "per_org", "active")
    ),
)
_ADMIT = move(TaskState.ENQUEUED, actor="schedule", reason="due").where(
    Task.id.in_(_ADMISSIBLE.columns(id=Uuid)), UNADMITTED
)
_ANY_DUE = select(Task.id).where(UNADMITTED, text("due_at <= statement_timestamp()")).limit(1)


async def any_due(connection: AsyncConnection) -> bool:
    """Whether any task waits to be admitted; a cheap check."""
    return (await connection.execute(_ANY_DUE)).first() is not None


async def any_admissible(connection: AsyncConnection, limits: AdmissionLimits) -> bool:
    """Whether any task could be admitted now; a check before the lock of all submits is taken."""
    return (await connection.execute(_ADMISSIBLE, limits.bindings())).first() is not None


async def admit_due(connection: AsyncConnection, limits: AdmissionLimits) -> int:
    """Admits the due tasks that the quotas have room for; their number.

    Under the global quota lock, which is released by the commit, without waiting for its WAL flush.
    """
    await commit_async(connection)
    await take(connection, LockSpace.QUOTA)
    admitted = await connection.execute(_ADMIT, limits.bindings())
    return admitted.rowcount
