"""Audit log, as administrators read it."""

from __future__ import annotations

from dataclasses import dataclass

from aerotask.db.engine import Database
from aerotask.domain.access import Caller
from aerotask.services.accounts.permissions import require_admin
from aerotask.store.accounts import audit
from aerotask.store.accounts.audit import AuditFilter, AuditRow

MAX_TAKE = 200


@dataclass(frozen=True, slots=True)
class AuditPage:
    """A page of the events that match a filter, and the total number of matches."""

    items: list[AuditRow]
    total: int
    take: int


@dataclass(frozen=True, slots=True)
class AuditService:
    """Access to the audit log for administrators."""

    db: Database

    async def page(self, caller: Caller, event_filter: AuditFilter, *, skip: int, take: int) -> AuditPage:
        """Events, newest first; for administrators."""
        require_admin(caller)
        take = max(1, min(take, MAX_TAKE))
        async with self.db.read() as connection:
            total = await audit.count(connection, event_filter)
            items = await audit.list_newest(connection, event_filter, skip=skip, take=take)
        return AuditPage(items, total, take)
