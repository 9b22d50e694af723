"""Quotas on active tasks and their output, checked under a lock so that racing submits can't exceed them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.domain.errors import LimitReached, TooLarge
from aerotask.domain.ids import OrgId, TaskId, UserId
from aerotask.domain.settings import Quotas
from aerotask.registry import Registry
from aerotask.sdk import QuotaClass, Tool
from aerotask.store.tasks import quota
from aerotask.store.tasks.quota import QuotaScope, QuotaUsage

RETRY_ACTIVE_S = 15
RETRY_SCHEDULED_S = 600
RETRY_DAY_S = 3600
PERIOD = timedelta(days=1)
"""Period in which artifacts count towards the quota."""


@dataclass(frozen=True, slots=True)
class QuotaRequest:
    """A task as quotas see it: its owner, its organization, its quota class and its estimated output."""

    org_id: OrgId
    user_id: UserId | None
    estimated_output_bytes: int
    quota_class: QuotaClass | None = None
    class_tools: frozenset[str] = frozenset()
    """The ids of all tools of the quota class."""
    scheduled: bool = False
    """The task is scheduled for later, so it is not active yet."""

    @classmethod
    def of_tool(
        cls, tool: Tool[Any], registry: Registry, org_id: OrgId, user_id: UserId | None, output_bytes: int
    ) -> QuotaRequest:
        """The request for a task of that tool."""
        class_tools = registry.ids_of_class(tool.quota_class)
        return cls(org_id, user_id, output_bytes, tool.quota_class, class_tools)

    @property
    def scope(self) -> QuotaScope:
        """The tasks that count for this one."""
        return QuotaScope(self.org_id, self.user_id, PERIOD, self.class_tools)


def raise_if_oversized(quotas: Quotas, estimated_output_bytes: int) -> None:
    """Check the estimated size of one task's output.

    Raises:
        TooLarge: it is above the limit (`output-too-large`).
    """
    if estimated_output_bytes > quotas.output_bytes:
        raise TooLarge(
            f"The output is estimated at {estimated_output_bytes} bytes, more than the limit of "
            f"{quotas.output_bytes}; choose a smaller input or fewer bands.",
            code="output-too-large",
        )


async def enforce(
    connection: AsyncConnection, quotas: Quotas, request: QuotaRequest, *, excluding: TaskId | None = None
) -> None:
    """Check the quotas under their lock; `excluding` is the task itself if the transaction has already inserted it.

    The lock is released by the commit, before the commit is on the disk: wait for `async_commit.flush_wal` before
    the caller is answered.

    Raises:
        LimitReached: one more task would exceed a limit; the error names it.
    """
    usage = await quota.read_usage_under_lock(connection, request.scope, excluding=excluding)
    raise_if_exceeded(quotas, usage, request)


def raise_if_exceeded(quotas: Quotas, usage: QuotaUsage, request: QuotaRequest) -> None:
    """Check the quotas for one more task.

    Raises:
        LimitReached: it would exceed a limit; the error names it.
    """
    if request.scheduled:
        # Anonymous callers share a small limit here as well.
        limit = quotas.scheduled_per_user if request.user_id else quotas.active_anonymous
        _raise_if_all_scheduled(usage.scheduled_of_user, limit)
        return
    per_user = quotas.active_per_user if request.user_id else quotas.active_anonymous
    _raise_if_full("maxActiveTasksPerUser", usage.active_of_user, per_user)
    _raise_if_full("maxActiveTasksPerOrg", usage.active_in_org, quotas.active_per_org)
    _raise_if_full("maxActiveTasks", usage.active, quotas.active)
    if request.quota_class is QuotaClass.BULK:
        limit = quotas.bulk_downloads_per_user
        _raise_if_full("maxActiveBulkDownloadsPerUser", usage.active_in_class_of_user, limit)
    made = usage.artifact_bytes_in_org
    if made + request.estimated_output_bytes > quotas.artifact_bytes_per_org_day:
        raise LimitReached(
            f"The organization's tasks made {made} bytes of artifacts in the last 24 hours, and the limit is "
            f"{quotas.artifact_bytes_per_org_day}; try again later.",
            limit_name="maxArtifactBytesPerOrgDay",
            limit=quotas.artifact_bytes_per_org_day,
            current=made,
            retry_after_s=RETRY_DAY_S,
        )


def _raise_if_all_scheduled(current: int, limit: int) -> None:
    if current >= limit:
        raise LimitReached(
            f"{current} tasks are scheduled for later, and the limit is {limit}; try again when one is due, or cancel some.",
            limit_name="maxScheduledTasksPerUser",
            limit=limit,
            current=current,
            retry_after_s=RETRY_SCHEDULED_S,
        )


def _raise_if_full(name: str, current: int, limit: int) -> None:
    if current >= limit:
        raise LimitReached(
            f"{current} tasks are waiting or running, and the limit ({name}) is {limit}; "
            "try again when one has ended.",
            limit_name=name,
            limit=limit,
            current=current,
            retry_after_s=RETRY_ACTIVE_S,
        )
