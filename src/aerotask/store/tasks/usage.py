"""Queries of resource usage, by organization and by owner."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import BigInteger, ColumnElement, and_, bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.db.engine import AnyRow
from aerotask.db.models import Dataset, DatasetUsage, Entry, Organization, Upload
from aerotask.domain.ids import DatasetId, OrgId, UserId
from aerotask.store.tasks import quota
from aerotask.store.tasks.quota import QuotaScope


@dataclass(frozen=True, slots=True)
class Payer:
    """The organization and owner whose limits a dataset's bytes count towards."""

    org_id: OrgId
    owner_id: UserId | None


@dataclass(frozen=True, slots=True)
class StoredTotals:
    """Stored bytes of entries, bytes that open uploads will add to them, and the number of entries and datasets."""

    entry_bytes: int
    upload_bytes: int
    entries: int
    datasets: int

    @property
    def total_bytes(self) -> int:
        """The bytes that count towards a limit."""
        return self.entry_bytes + self.upload_bytes


@dataclass(frozen=True, slots=True)
class Activity:
    """Active tasks, and bytes of artifacts of the last day."""

    active_tasks: int
    active_tasks_of_caller: int
    artifact_bytes_day: int


_PAYER = (
    select(Organization.id, Organization.owner_id)
    .join(Dataset, Dataset.org_id == Organization.id)
    .where(Dataset.id == bindparam("dataset_id", type_=Dataset.id.type), Dataset.deleted_at.is_(None))
)
_LOCK_PAYER = _PAYER.with_for_update(read=True, key_share=True, of=Organization)


async def payer_of(connection: AsyncConnection, dataset_id: DatasetId) -> Payer | None:
    """The payer of the dataset's bytes; None if the dataset has been removed."""
    return _payer((await connection.execute(_PAYER, {"dataset_id": dataset_id})).one_or_none())


async def lock_payer(connection: AsyncConnection, dataset_id: DatasetId) -> Payer | None:
    """As `payer_of`, with a lock that keeps the organization's owner until the transaction ends."""
    return _payer((await connection.execute(_LOCK_PAYER, {"dataset_id": dataset_id})).one_or_none())


def _payer(row: AnyRow | None) -> Payer | None:
    return None if row is None else Payer(OrgId(row[0]), None if row[1] is None else UserId(row[1]))


async def stored_in(connection: AsyncConnection, dataset_id: DatasetId) -> int:
    """The bytes of a dataset's entries."""
    query = select(DatasetUsage.size_bytes).where(DatasetUsage.dataset_id == dataset_id)
    return (await connection.execute(query)).scalar_one_or_none() or 0


def _sums(mine: ColumnElement[bool]) -> ColumnElement[int]:
    # The entry that an upload will replace is not counted twice.
    added = func.greatest(Upload.size_bytes - func.coalesce(Entry.size_bytes, 0), 0)
    announced = (
        select(func.coalesce(func.sum(added), 0).cast(BigInteger))
        .join(Dataset, Dataset.id == Upload.dataset_id)
        .outerjoin(Entry, and_(Entry.dataset_id == Upload.dataset_id, Entry.path == Upload.path))
        .where(mine, Dataset.deleted_at.is_(None), Upload.finished_at.is_(None))
        .correlate(None)
    )
    return announced.scalar_subquery()


_IN_ORG = Dataset.org_id == bindparam("org_id", type_=Dataset.org_id.type)
_OF_OWNER = Dataset.org_id.in_(
    select(Organization.id).where(
        Organization.owner_id == bindparam("owner_id", type_=Organization.owner_id.type)
    )
)
_STORED = {
    which: select(
        func.coalesce(func.sum(DatasetUsage.size_bytes), 0).cast(BigInteger),
        _sums(mine),
        func.coalesce(func.sum(DatasetUsage.entries), 0).cast(BigInteger),
        func.count(Dataset.id),
    )
    .select_from(Dataset)
    .outerjoin(DatasetUsage, DatasetUsage.dataset_id == Dataset.id)
    .where(mine, Dataset.deleted_at.is_(None))
    for which, mine in {"org": _IN_ORG, "owner": _OF_OWNER}.items()
}


async def stored_in_org(connection: AsyncConnection, org_id: OrgId) -> StoredTotals:
    """The stored totals of an organization's datasets."""
    return StoredTotals(*(await connection.execute(_STORED["org"], {"org_id": org_id})).one())


async def stored_of_owner(connection: AsyncConnection, owner_id: UserId) -> StoredTotals:
    """The stored totals of all organizations that the user owns."""
    return StoredTotals(*(await connection.execute(_STORED["owner"], {"owner_id": owner_id})).one())


async def activity(connection: AsyncConnection, org_id: OrgId, user_id: UserId | None) -> Activity:
    """The organization's activity, as its quotas count it."""
    usage = await quota.read_usage(connection, QuotaScope(org_id, user_id, timedelta(days=1)))
    return Activity(usage.active_in_org, usage.active_of_user, usage.artifact_bytes_in_org)
