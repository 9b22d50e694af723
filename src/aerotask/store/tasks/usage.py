"""Queries for how much an organization, and all of one owner's, hold and do."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import BigInteger, ColumnElement, and_, bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.db.engine import AnyRow
from aerotask.db.models import Dataset, DatasetUsage, Entry, Organization, Upload
from aerotask.domain.ids import DatasetId, OrgId, UserId
from aerotask.store.tasks import submit
from aerotask.store.tasks.submit import QuotaScope


@dataclass(frozen=True, slots=True)
class Payer:
    """Whose limits a dataset's bytes count for."""

    org_id: OrgId
    owner_id: UserId | None


@dataclass(frozen=True, slots=True)
class StoredTotals:
    """What is stored: the bytes of entries, those that open uploads will add to them, and how many entries."""

    entry_bytes: int
    upload_bytes: int
    entries: int
    datasets: int

    @property
    def total_bytes(self) -> int:
        """What counts for a limit."""
        return self.entry_bytes + self.upload_bytes


@dataclass(frozen=True, slots=True)
class Activity:
    """What is under way, and what was made in the last day."""

    active_tasks: int
    active_tasks_of_caller: int
    artifact_bytes_day: int


_PAYER = (
    select(Organization.id, Organization.owner_id)
    .join(Dataset, Dataset.org_id == Organization.id)
    .where(Dataset.id == bindparam("dataset_id", type_=Dataset.id.type), Dataset.deleted_at.is_(None))
)
_HOLD_PAYER = _PAYER.with_for_update(read=True, key_share=True, of=Organization)


async def payer_of(connection: AsyncConnection, dataset_id: DatasetId) -> Payer | None:
    """Whose limits the dataset's bytes count for; None if it is gone."""
    return _payer((await connection.execute(_PAYER, {"dataset_id": dataset_id})).one_or_none())


async def hold_payer(connection: AsyncConnection, dataset_id: DatasetId) -> Payer | None:
    """As `payer_of`; the organization isn't given away until the transaction ends."""
    return _payer((await connection.execute(_HOLD_PAYER, {"dataset_id": dataset_id})).one_or_none())


def _payer(row: AnyRow | None) -> Payer | None:
    return None if row is None else Payer(OrgId(row[0]), None if row[1] is None else UserId(row[1]))


async def stored_in(connection: AsyncConnection, dataset_id: DatasetId) -> int:
    """The bytes of a dataset's entries."""
    query = select(DatasetUsage.size_bytes).where(DatasetUsage.dataset_id == dataset_id)
    return (await connection.execute(query)).scalar_one_or_none() or 0


def _sums(mine: ColumnElement[bool]) -> ColumnElement[int]:
    # What an upload will replace is counted once, and not beside it.
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
    """What an organization's datasets hold."""
    return StoredTotals(*(await connection.execute(_STORED["org"], {"org_id": org_id})).one())


async def stored_of_owner(connection: AsyncConnection, owner_id: UserId) -> StoredTotals:
    """What the datasets of all the user's own organizations hold."""
    return StoredTotals(*(await connection.execute(_STORED["owner"], {"owner_id": owner_id})).one())


async def activity(connection: AsyncConnection, org_id: OrgId, user_id: UserId | None) -> Activity:
    """What the organization's tasks do, as the quotas count it."""
    load = await submit.load_for(connection, QuotaScope(org_id, user_id, timedelta(days=1)))
    return Activity(load.active_in_org, load.active_of_user, load.artifact_bytes_in_org)
