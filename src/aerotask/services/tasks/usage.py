"""Resource usage of an organization, for its members."""

from __future__ import annotations

from dataclasses import dataclass

from aerotask.db.engine import Database
from aerotask.domain.access import Caller, rights_in
from aerotask.domain.errors import Forbidden
from aerotask.domain.settings import Quotas, StorageQuota
from aerotask.services.accounts.permissions import PermissionService
from aerotask.store.tasks import usage
from aerotask.store.tasks.usage import Activity, StoredTotals


@dataclass(frozen=True, slots=True)
class OrgUsage:
    """Usage that counts towards an organization's limits."""

    stored: StoredTotals
    owner_bytes: int | None
    activity: Activity


@dataclass(frozen=True, slots=True)
class UsageService:
    """Sums up usage, with the same queries that enforce the limits."""

    db: Database
    access: PermissionService
    storage: StorageQuota
    quotas: Quotas

    async def of_org(self, caller: Caller, slug: str) -> OrgUsage:
        """The usage of an organization.

        Raises:
            Forbidden: the organization is public, and the caller isn't one of its members.
        """
        org = await self.access.org(caller, slug)
        if not rights_in(caller, org.standing):
            raise Forbidden("Only members of the organization may see its usage.")
        owner_id = org.standing.owner_id
        async with self.db.read() as connection:
            stored = await usage.stored_in_org(connection, org.id)
            owned = None if owner_id is None else await usage.stored_of_owner(connection, owner_id)
            activity = await usage.activity(connection, org.id, caller.user_id)
        return OrgUsage(stored, None if owned is None else owned.total_bytes, activity)
