"""Queries for the audit log: rows are added and, after their time, removed; never changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.db.clock import DAY_S, tx_now
from aerotask.db.models import AuditEvent
from aerotask.domain.access import Caller
from aerotask.domain.audit import AuditAction
from aerotask.domain.ids import new_id
from aerotask.domain.text_cleaning import clean_json, clean_line

MAX_TARGET_CHARS = 512


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One event."""

    id: UUID
    at: datetime
    actor: str
    address: str | None
    action: AuditAction
    target: str
    details: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which events; None lets every one through."""

    action: AuditAction | None = None
    actor: str | None = None
    target: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """The filter as SQL."""
        asked: list[ColumnElement[bool]] = []
        if self.action is not None:
            asked.append(AuditEvent.action == str(self.action))
        if self.actor is not None:
            asked.append(AuditEvent.actor == self.actor)
        if self.target is not None:
            asked.append(AuditEvent.target == self.target)
        if self.since is not None:
            asked.append(AuditEvent.at >= self.since)
        if self.until is not None:
            asked.append(AuditEvent.at < self.until)
        return asked


async def record(
    connection: AsyncConnection, by: Caller, action: AuditAction, target: str, **details: object
) -> None:
    """Note what the caller does to the target, in the transaction that does it."""
    await connection.execute(
        insert(AuditEvent).values(
            id=new_id(),
            actor=by.display_name,
            actor_id=by.user_id,
            address=by.address,
            action=str(action),
            target=clean_line(target)[:MAX_TARGET_CHARS],
            details=clean_json(details),
        )
    )


_COLUMNS = (
    AuditEvent.id,
    AuditEvent.at,
    AuditEvent.actor,
    AuditEvent.address,
    AuditEvent.action,
    AuditEvent.target,
    AuditEvent.details,
)


async def list_newest(
    connection: AsyncConnection, which: AuditFilter, *, skip: int, take: int
) -> list[AuditRow]:
    """Events, newest first."""
    query = (
        select(*_COLUMNS).where(*which.conditions()).order_by(AuditEvent.id.desc()).offset(skip).limit(take)
    )
    return [
        AuditRow(row.id, row.at, row.actor, row.address, AuditAction(row.action), row.target, row.details)
        for row in await connection.execute(query)
    ]


async def count(connection: AsyncConnection, which: AuditFilter) -> int:
    """How many events the filter lets through."""
    query = select(func.count()).select_from(AuditEvent).where(*which.conditions())
    return (await connection.execute(query)).scalar_one()


async def remove_old(
    connection: AsyncConnection, *, retention_days: int, clock_offset_s: int, at_most: int
) -> int:
    """Remove events that are older than that; how many."""
    old = (
        select(AuditEvent.id)
        .where(AuditEvent.at < tx_now(plus_s=clock_offset_s - retention_days * DAY_S))
        .limit(at_most)
    )
    return (await connection.execute(delete(AuditEvent).where(AuditEvent.id.in_(old)))).rowcount
