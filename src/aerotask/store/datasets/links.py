"""Queries for signed links, of which only the digest of the token is stored."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, and_, bindparam, delete, false, func, insert, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.db.clock import db_now, seconds, tx_now
from aerotask.db.engine import AnyRow, AnySelect
from aerotask.db.models import ApiKey, Dataset, Entry, Link, Member, Organization, User
from aerotask.domain.access import Caller, LinkScope
from aerotask.domain.ids import DatasetId, EntryId, LinkId, TaskId, UserId
from aerotask.store.accounts import users
from aerotask.store.accounts.users import UserRow
from aerotask.store.datasets import datasets
from aerotask.store.datasets.datasets import DatasetRow


@dataclass(frozen=True, slots=True)
class LinkRow:
    """A link's description, without its token."""

    id: LinkId
    user_id: UserId
    owner: str
    task_id: TaskId | None
    path: str | None
    """The entry, or folder with all below it; empty for the whole dataset; None for a task."""
    scope: LinkScope
    note: str
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class FoundLink:
    """A link that may be used, with its maker and its dataset as the maker sees it."""

    row: LinkRow
    maker: UserRow
    dataset: DatasetRow


_COLUMNS = (
    Link.id,
    Link.user_id,
    User.user_name,
    Link.task_id,
    Link.path,
    Link.scope,
    Link.note,
    Link.created_at,
    Link.expires_at,
)
_DATASET_AT = len(_COLUMNS)
_MAKER_AT = _DATASET_AT + len(datasets.COLUMNS)
# Built once, since it runs for every request with a link.
_FIND: AnySelect = (
    select(*_COLUMNS, *datasets.COLUMNS, *users.columns_of(User))
    .join(User, User.id == Link.user_id)
    .join(Dataset, and_(Dataset.id == Link.dataset_id, Dataset.deleted_at.is_(None)))
    .join(Organization, Organization.id == Dataset.org_id)
    .outerjoin(Member, and_(Member.org_id == Organization.id, Member.user_id == Link.user_id))
    .outerjoin(ApiKey, and_(ApiKey.id == Link.key_id, ApiKey.user_id == Link.user_id))
    .outerjoin(
        Entry,
        and_(Entry.id == Link.entry_id, Entry.dataset_id == Link.dataset_id, Entry.path == Link.path),
    )
    .where(
        Link.digest == bindparam("digest"),
        Link.expires_at > db_now(),
        User.is_deactivated == false(),
        User.token_epoch == Link.epoch,
        or_(Link.key_id.is_(None), ApiKey.expires_at > db_now()),
        # A renamed, moved or removed entry is no longer what the link was made for, nor is one that took its place.
        or_(Link.entry_id.is_(None), Entry.id.is_not(None)),
    )
)


async def find(connection: AsyncConnection, digest: bytes) -> FoundLink | None:
    """The link with that digest; None if it has expired, or its maker's credentials or its target have ended."""
    row = (await connection.execute(_FIND, {"digest": digest})).one_or_none()
    if row is None:
        return None
    return FoundLink(
        _link_row(row[:_DATASET_AT]),
        users.user_row(row[_MAKER_AT:]),
        datasets.dataset_row(row[_DATASET_AT:_MAKER_AT]),
    )


async def add(  # noqa: PLR0913  the columns of a link
    connection: AsyncConnection,
    *,
    link_id: LinkId,
    digest: bytes,
    dataset_id: DatasetId,
    maker: Caller,
    task_id: TaskId | None,
    entry_id: EntryId | None,
    path: str | None,
    scope: LinkScope,
    note: str,
    ttl_s: int,
) -> datetime:
    """Inserts a link that ends with the maker's present credentials, and returns when it expires."""
    values = {
        "id": link_id,
        "digest": digest,
        "dataset_id": dataset_id,
        "user_id": maker.user_id,
        "epoch": maker.epoch,
        "key_id": maker.key_id,
        "task_id": task_id,
        "entry_id": entry_id,
        "path": path,
        "scope": str(scope),
        "note": note,
        "expires_at": func.now() + seconds(ttl_s),
    }
    return (await connection.execute(insert(Link).values(values).returning(Link.expires_at))).scalar_one()


async def count_of(connection: AsyncConnection, user_id: UserId) -> int:
    """The number of the user's links that have not expired."""
    query = select(func.count()).where(Link.user_id == user_id, Link.expires_at > tx_now())
    return (await connection.execute(query)).scalar_one()


async def count(connection: AsyncConnection, dataset_id: DatasetId, *, made_by: UserId | None) -> int:
    """The number of the dataset's links that have not expired, of one user or of all."""
    query = select(func.count()).select_from(Link).where(*_listed(dataset_id, made_by))
    return (await connection.execute(query)).scalar_one()


async def list_newest(
    connection: AsyncConnection, dataset_id: DatasetId, *, made_by: UserId | None, skip: int, take: int
) -> list[LinkRow]:
    """A page of the dataset's links that have not expired, newest first."""
    query = (
        select(*_COLUMNS)
        .join(User, User.id == Link.user_id)
        .where(*_listed(dataset_id, made_by))
        .order_by(Link.id.desc())
        .offset(skip)
        .limit(take)
    )
    return [_link_row(row) for row in await connection.execute(query)]


async def remove(
    connection: AsyncConnection, dataset_id: DatasetId, link_id: UUID, *, made_by: UserId | None
) -> bool:
    """Removes a link of the dataset, of one user or of anyone; False if there is no such link."""
    statement = delete(Link).where(Link.id == link_id, Link.dataset_id == dataset_id)
    if made_by is not None:
        statement = statement.where(Link.user_id == made_by)
    return (await connection.execute(statement)).rowcount > 0


async def remove_expired(connection: AsyncConnection, *, max_count: int) -> int:
    """Removes expired links; returns their number."""
    expired = select(Link.id).where(Link.expires_at < tx_now()).limit(max_count)
    return (await connection.execute(delete(Link).where(Link.id.in_(expired)))).rowcount


def _listed(dataset_id: DatasetId, made_by: UserId | None) -> tuple[ColumnElement[bool], ...]:
    conditions: tuple[ColumnElement[bool], ...] = (Link.dataset_id == dataset_id, Link.expires_at > tx_now())
    return conditions if made_by is None else (*conditions, Link.user_id == made_by)


def _link_row(columns: AnyRow | tuple[Any, ...]) -> LinkRow:
    link_id, user_id, owner, task_id, path, scope, note, created_at, expires_at = columns
    return LinkRow(
        LinkId(link_id),
        UserId(user_id),
        owner,
        None if task_id is None else TaskId(task_id),
        path,
        LinkScope(scope),
        note,
        created_at,
        expires_at,
    )
