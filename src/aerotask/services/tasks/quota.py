"""How much may be under way at once; checked under a lock, so that racing submits can't exceed it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.domain.errors import LimitReached, TooLarge
from aerotask.domain.ids import OrgId, TaskId, UserId
from aerotask.domain.settings import Quotas
from aerotask.store.tasks import submit
from aerotask.store.tasks.submit import BULK_DOWNLOAD, QuotaUsage

RETRY_ACTIVE_S = 15
RETRY_DAY_S = 3600
PERIOD = timedelta(days=1)
"""For how long artifacts count that have been made."""


def refuse_oversized(quotas: Quotas, estimated_output_bytes: int) -> None:
    """Let a task through whose output is expected to stay below the limit.

    Raises:
        TooLarge: it isn't.
    """
    if estimated_output_bytes > quotas.output_bytes:
        raise TooLarge(
            f"The output is estimated at {estimated_output_bytes} bytes, more than the limit of "
            f"{quotas.output_bytes}; choose a smaller input or fewer bands.",
            code="output-too-large",
        )


@dataclass(frozen=True, slots=True)
class QuotaRequest:
    """A task as quotas see it: who wants it, where, and what it costs."""

    org_id: OrgId
    user_id: UserId | None
    tool_id: str
    estimated_output_bytes: int


async def admit(
    connection: AsyncConnection, quotas: Quotas, wish: QuotaRequest, *, besides: TaskId | None = None
) -> None:
    """Count what is under way; `besides` is the task itself if the transaction has inserted it already.

    The lock is held until the transaction has committed, and not until the commit is on the disk: wait for
    `durability.flushed` before anybody is told.

    Raises:
        LimitReached: one more task would exceed a limit, and which.
    """
    load = await submit.load_under_lock(connection, wish.org_id, wish.user_id, period=PERIOD, besides=besides)
    refuse_excess(quotas, load, wish)


def refuse_excess(quotas: Quotas, load: QuotaUsage, wish: QuotaRequest) -> None:
    """Let one more task through.

    Raises:
        LimitReached: it would exceed a limit, and which.
    """
    per_user = quotas.active_per_user if wish.user_id else quotas.active_anonymous
    _within("maxActiveTasksPerUser", load.active_of_user, per_user)
    _within("maxActiveTasksPerOrg", load.active_in_org, quotas.active_per_org)
    _within("maxActiveTasks", load.active, quotas.active)
    if wish.tool_id == BULK_DOWNLOAD:
        limit = quotas.bulk_downloads_per_user
        _within("maxActiveBulkDownloadsPerUser", load.bulk_downloads_of_user, limit)
    made = load.artifact_bytes_in_org
    if made + wish.estimated_output_bytes > quotas.artifact_bytes_per_org_day:
        raise LimitReached(
            "The organization has made as many bytes of artifacts in 24 hours as it may "
            f"({made} of {quotas.artifact_bytes_per_org_day}); try again later.",
            limit_name="maxArtifactBytesPerOrgDay",
            limit=quotas.artifact_bytes_per_org_day,
            current=made,
            retry_after_s=RETRY_DAY_S,
        )


def _within(name: str, current: int, limit: int) -> None:
    if current >= limit:
        raise LimitReached(
            f"{current} tasks wait or run, and the limit ({name}) is {limit}; try again when one has ended.",
            limit_name=name,
            limit=limit,
            current=current,
            retry_after_s=RETRY_ACTIVE_S,
        )
