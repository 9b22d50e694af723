"""Admission of tasks that were scheduled for later, once they are due and the quotas have room."""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from aerotask.db.engine import Database
from aerotask.domain.settings import Quotas
from aerotask.registry import Registry
from aerotask.sdk import QuotaClass
from aerotask.services.tasks.quota import PERIOD
from aerotask.store.queue import admission
from aerotask.store.queue.admission import AdmissionLimits

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class AdmissionService:
    """Makes due tasks active; a task beyond a limit waits, where a submit would be refused."""

    db: Database
    quotas: Quotas
    registry: Registry

    async def admit_due(self) -> int:
        """Admits the due tasks that the quotas have room for; their number."""
        limits = AdmissionLimits(self.quotas, PERIOD, sorted(self.registry.ids_of_class(QuotaClass.BULK)))
        async with self.db.read() as connection:
            if not await admission.any_due(connection):
                return 0
            if not await admission.any_admissible(connection, limits):
                return 0
        async with self.db.begin_short() as connection:
            admitted = await admission.admit_due(connection, limits)
        _log.info("tasks.admitted", tasks=admitted)
        return admitted
