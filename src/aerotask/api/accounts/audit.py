"""Audit log route, for administrators."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query

from aerotask.api.deps import CallerDep, PlatformDep, Skip, Take
from aerotask.api.http.errors import problems
from aerotask.api.http.schema import UtcTime
from aerotask.api.http.strict_json import StrictRoute
from aerotask.domain.audit import AuditAction
from aerotask.representations.base import ApiModel, Moment, RowModel, damaged_members
from aerotask.store.accounts.audit import AuditFilter

router = APIRouter(tags=["system"], route_class=StrictRoute)


class AuditEventResponse(RowModel):
    """Audit event."""

    id: UUID
    at: Moment
    actor: str
    """The user's name at that time, or `anonymous`."""
    address: str | None
    """IP address of the client."""
    action: AuditAction
    target: str
    """The object of the action."""
    details: dict[str, Any]


class AuditResponse(ApiModel):
    """Page of audit events."""

    items: list[AuditEventResponse]
    total: int
    skip: int
    take: int


@router.get("/sys/audit", responses=problems(400, 401, 403))
async def list_audit_events(
    caller: CallerDep,
    platform: PlatformDep,
    action: AuditAction | None = None,
    actor: Annotated[str | None, Query(max_length=128, description="Name of the user who acted.")] = None,
    target: Annotated[str | None, Query(max_length=512, description="Object of the action.")] = None,
    since: Annotated[UtcTime | None, Query(description="Events at or after this time.")] = None,
    until: Annotated[UtcTime | None, Query(description="Events before this time.")] = None,
    skip: Skip = 0,
    take: Take = 50,
) -> AuditResponse:
    """List logins, grants, deletions, cancellations by others, and changes of keys and users, newest first.

    For administrators.
    """
    events = AuditFilter(action=action, actor=actor, target=target, since=since, until=until)
    page = await platform.audit.page(caller, events, skip=skip, take=take)
    return AuditResponse(
        items=[
            AuditEventResponse(
                id=row.id,
                at=row.at,
                actor=row.actor,
                address=row.address,
                action=row.action,
                target=row.target,
                details=dict(row.details),
                damaged=damaged_members(row.damaged),
            )
            for row in page.items
        ],
        total=page.total,
        skip=skip,
        take=page.take,
    )
