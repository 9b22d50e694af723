"""Reports of damaged contents: logged, and recorded for the metrics and for the check of the storage."""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from aerotask.db.engine import Database
from aerotask.db.outages import is_outage
from aerotask.domain.errors import ContentDamaged
from aerotask.store.storage import damaged_blobs

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DamageService:
    """Reports damaged contents."""

    db: Database

    async def report(self, damage: ContentDamaged) -> None:
        """Logs the damage and records it; while Postgres is away it is only logged."""
        _log.error("content.damaged", blob_key=damage.blob_key, reason=damage.reason)
        try:
            async with self.db.begin() as connection:
                await damaged_blobs.record(connection, {damage.blob_key: damage.reason})
        except Exception as error:
            if not is_outage(error):
                raise
            _log.warning("damage.unrecorded", blob_key=damage.blob_key, error=str(error))
