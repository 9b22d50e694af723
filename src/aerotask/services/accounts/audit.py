"""Reading the audit log."""

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
    """Some of the events that a filter lets through, and how many there are in all."""

    items: list[AuditRow]
    total: int
    take: int


@dataclass(frozen=True, slots=True)
class AuditService:
    """What administrators may know of what was done."""

    db: Database

    async def page(self, caller: Caller, which: AuditFilter, *, skip: int, take: int) -> AuditPage:
        """Events, newest first; for administrators."""
        require_admin(caller)
        take = max(1, min(take, MAX_TAKE))
        async with self.db.read() as connection:
            total = await audit.count(connection, which)
            items = await audit.list_newest(connection, which, skip=skip, take=take)
        return AuditPage(items, total, take)
