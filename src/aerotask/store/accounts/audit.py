"""Queries for the audit log: rows are added and removed after the retention time, never changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.db.clock import DAY_S, tx_now
from aerotask.db.engine import AnyRow
from aerotask.db.models import AuditEvent
from aerotask.domain.access import Caller
from aerotask.domain.audit import AuditAction
from aerotask.domain.ids import new_id
from aerotask.domain.text_cleaning import clean_json, clean_line
from aerotask.store.json_columns import JsonColumns

MAX_TARGET_CHARS = 512


@dataclass(frozen=True, slots=True)
class AuditRow:
    """An event of the audit log."""

    id: UUID
    at: datetime
    actor: str
    address: str | None
    action: AuditAction
    target: str
    details: Mapping[str, Any]
    damaged: tuple[str, ...] = ()
    """JSON columns that don't have the form that they were written in, and are empty here."""


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Criteria for events; None matches all."""

    action: AuditAction | None = None
    actor: str | None = None
    target: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """The criteria as SQL conditions."""
        conditions: list[ColumnElement[bool]] = []
        if self.action is not None:
            conditions.append(AuditEvent.action == str(self.action))
        if self.actor is not None:
            conditions.append(AuditEvent.actor == self.actor)
        if self.target is not None:
            conditions.append(AuditEvent.target == self.target)
        if self.since is not None:
            conditions.append(AuditEvent.at >= self.since)
        if self.until is not None:
            conditions.append(AuditEvent.at < self.until)
        return conditions


async def record(
    connection: AsyncConnection, actor: Caller, action: AuditAction, target: str, **details: object
) -> None:
    """Records an action of the caller on the target, in the transaction that performs it."""
    await connection.execute(
        insert(AuditEvent).values(
            id=new_id(),
            actor=actor.display_name,
            actor_id=actor.user_id,
            address=actor.address,
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
    connection: AsyncConnection, event_filter: AuditFilter, *, skip: int, take: int
) -> list[AuditRow]:
    """A page of events, newest first."""
    query = (
        select(*_COLUMNS)
        .where(*event_filter.conditions())
        .order_by(AuditEvent.id.desc())
        .offset(skip)
        .limit(take)
    )
    return [_audit_row(row) for row in await connection.execute(query)]


def _audit_row(row: AnyRow) -> AuditRow:
    checked = JsonColumns()
    details = checked.mapping("details", row.details)
    damaged = checked.damaged("audit_events", row.id)
    action = AuditAction(row.action)
    return AuditRow(row.id, row.at, row.actor, row.address, action, row.target, details, damaged)


async def count(connection: AsyncConnection, event_filter: AuditFilter) -> int:
    """Number of events that match the filter."""
    query = select(func.count()).select_from(AuditEvent).where(*event_filter.conditions())
    return (await connection.execute(query)).scalar_one()


async def remove_old(
    connection: AsyncConnection, *, retention_days: int, clock_offset_s: int, max_count: int
) -> int:
    """Removes events older than `retention_days`; returns their number."""
    old = (
        select(AuditEvent.id)
        .where(AuditEvent.at < tx_now(plus_s=clock_offset_s - retention_days * DAY_S))
        .limit(max_count)
    )
    return (await connection.execute(delete(AuditEvent).where(AuditEvent.id.in_(old)))).rowcount
