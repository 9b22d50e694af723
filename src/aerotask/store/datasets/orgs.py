"""Queries for organizations, their members and their datasets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Text, and_, bindparam, cast, delete, func, insert, literal, or_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.db.clock import db_now
from aerotask.db.engine import AnyRow, AnySelect
from aerotask.db.models import Dataset, Member, Organization, User
from aerotask.domain.access import Membership, OrgStanding, Visibility
from aerotask.domain.ids import DatasetId, OrgId, UserId


@dataclass(frozen=True, slots=True)
class OrgRow:
    """An organization as one caller stands to it."""

    id: OrgId
    slug: str
    name: str
    description: str
    is_public: bool
    owner: str | None
    created_at: datetime
    standing: OrgStanding


@dataclass(frozen=True, slots=True)
class DatasetRow:
    """A dataset, its organization's slug, and the caller's standing there."""

    id: DatasetId
    org_slug: str
    slug: str
    name: str
    tagline: str
    visibility: Visibility
    created_at: datetime
    standing: OrgStanding


@dataclass(frozen=True, slots=True)
class MemberRow:
    """A member of an organization."""

    user_name: str
    permissions: Membership
    created_at: datetime


# Statements are built once: building and adapting one costs more than running it. `seen_by` is the caller's id; no
# membership joins for an anonymous caller, whose id is NULL.
_IS_MEMBER = and_(
    Member.org_id == Organization.id, Member.user_id == bindparam("seen_by", type_=Member.user_id.type)
)
_ORGS: AnySelect = (
    select(
        Organization.id,
        Organization.slug,
        Organization.name,
        Organization.description,
        Organization.is_public,
        User.user_name,
        Organization.created_at,
        Organization.owner_id,
        Member.permissions,
    )
    .outerjoin(User, User.id == Organization.owner_id)
    .outerjoin(Member, _IS_MEMBER)
    .where(Organization.deleted_at.is_(None))
)
_FIND_ORG = _ORGS.where(Organization.slug == bindparam("slug"))
_LIST_ORGS = _ORGS.order_by(Organization.slug)
_LIST_VISIBLE_ORGS = _LIST_ORGS.where(
    or_(
        Organization.is_public,
        Organization.owner_id == bindparam("seen_by", type_=Member.user_id.type),
        Member.user_id.is_not(None),
    )
)


def _standing(org_id: UUID, owner_id: UUID | None, permissions: str | None, *, public: bool) -> OrgStanding:
    return OrgStanding(
        OrgId(org_id),
        None if owner_id is None else UserId(owner_id),
        None if permissions is None else Membership(permissions),
        is_public=public,
    )


def _org(row: AnyRow) -> OrgRow:
    standing = _standing(row.id, row.owner_id, row.permissions, public=row.is_public)
    return OrgRow(
        standing.org_id,
        row.slug,
        row.name,
        row.description,
        row.is_public,
        row.user_name,
        row.created_at,
        standing,
    )


async def find(connection: AsyncConnection, slug: str, *, seen_by: UserId | None) -> OrgRow | None:
    """The organization of that slug."""
    row = (await connection.execute(_FIND_ORG, {"seen_by": seen_by, "slug": slug})).one_or_none()
    return None if row is None else _org(row)


async def list_all(connection: AsyncConnection, *, seen_by: UserId | None) -> list[OrgRow]:
    """Every organization with the caller's standing, by slug."""
    return [_org(row) for row in await connection.execute(_LIST_ORGS, {"seen_by": seen_by})]


async def list_visible(connection: AsyncConnection, *, seen_by: UserId | None) -> list[OrgRow]:
    """The organizations that are public, or that the caller owns or is a member of, by slug."""
    return [_org(row) for row in await connection.execute(_LIST_VISIBLE_ORGS, {"seen_by": seen_by})]


async def count_owned(connection: AsyncConnection, owner_id: UserId) -> int:
    """How many organizations the user owns."""
    query = select(func.count()).where(Organization.owner_id == owner_id, Organization.deleted_at.is_(None))
    return (await connection.execute(query)).scalar_one()


async def add(  # noqa: PLR0913  the columns of an organization
    connection: AsyncConnection,
    *,
    org_id: OrgId,
    slug: str,
    name: str,
    description: str,
    is_public: bool,
    owner_id: UserId,
) -> None:
    """Insert an organization.

    Raises:
        sqlalchemy.exc.IntegrityError: the slug is taken.
    """
    await connection.execute(
        insert(Organization).values(
            id=org_id,
            slug=slug,
            name=name,
            description=description,
            is_public=is_public,
            owner_id=owner_id,
        )
    )


async def update_org(
    connection: AsyncConnection, org_id: OrgId, *, name: str, description: str, is_public: bool
) -> None:
    """Change what an organization is called."""
    await connection.execute(
        update(Organization)
        .where(Organization.id == org_id)
        .values(name=name, description=description, is_public=is_public)
    )


async def transfer_org(connection: AsyncConnection, org_id: OrgId, to: UserId) -> None:
    """Make the user the organization's owner; who owned it before becomes one of its administrators."""
    asked = select(Organization.owner_id).where(Organization.id == org_id).with_for_update()
    former = (await connection.execute(asked)).scalar_one_or_none()
    await connection.execute(update(Organization).where(Organization.id == org_id).values(owner_id=to))
    await remove_member(connection, org_id, to)
    if former is not None and former != to:
        await set_member(connection, org_id, UserId(former), Membership.ADMIN)


async def delete_org(connection: AsyncConnection, org_id: OrgId) -> None:
    """Take an organization and all its datasets out of everybody's sight, and free their slugs; the sweep does the rest."""
    for table, which in ((Organization, Organization.id == org_id), (Dataset, Dataset.org_id == org_id)):
        await connection.execute(
            update(table).where(which, table.deleted_at.is_(None)).values(**_gone(table))
        )


async def list_members(connection: AsyncConnection, org_id: OrgId) -> list[MemberRow]:
    """The members, by name."""
    rows = await connection.execute(
        select(User.user_name, Member.permissions, Member.created_at)
        .join(User, User.id == Member.user_id)
        .where(Member.org_id == org_id)
        .order_by(User.user_name)
    )
    return [MemberRow(row[0], Membership(row[1]), row[2]) for row in rows]


async def set_member(
    connection: AsyncConnection, org_id: OrgId, user_id: UserId, permissions: Membership
) -> None:
    """Make the user a member with these permissions, whether or not they were one."""
    await connection.execute(
        upsert(Member)
        .values(org_id=org_id, user_id=user_id, permissions=permissions)
        .on_conflict_do_update(
            index_elements=[Member.org_id, Member.user_id], set_={"permissions": permissions}
        )
    )


async def remove_member(connection: AsyncConnection, org_id: OrgId, user_id: UserId) -> bool:
    """Remove the member; whether there was one."""
    removed = await connection.execute(
        delete(Member).where(Member.org_id == org_id, Member.user_id == user_id)
    )
    return bool(removed.rowcount)


DATASET_COLUMNS = (
    Dataset.id,
    Organization.slug,
    Dataset.slug,
    Dataset.name,
    Dataset.tagline,
    Dataset.visibility,
    Dataset.created_at,
    Dataset.org_id,
    Organization.owner_id,
    Organization.is_public,
    Member.permissions,
)
"""What `dataset_row` makes a dataset from; the member is the one who looks."""
_DATASETS: AnySelect = (
    select(*DATASET_COLUMNS)
    .join(Organization, Organization.id == Dataset.org_id)
    .outerjoin(Member, _IS_MEMBER)
    .where(Dataset.deleted_at.is_(None))
)
_FIND_DATASET = _DATASETS.where(Organization.slug == bindparam("org_slug"), Dataset.slug == bindparam("slug"))
_GET_DATASET = _DATASETS.where(Dataset.id == bindparam("dataset_id"))
_GET_DATASET_AND_USER = _GET_DATASET.outerjoin(User, User.id == bindparam("seen_by")).add_columns(
    User.user_name, User.is_admin, User.is_deactivated
)
_LIST_DATASETS = _DATASETS.where(Dataset.org_id == bindparam("org_id")).order_by(Dataset.slug)


def dataset_row(values: Sequence[Any]) -> DatasetRow:
    """A dataset from the values of `DATASET_COLUMNS`."""
    dataset_id, org_slug, slug, name, tagline, visibility, created_at, *standing = values
    org_id, owner_id, is_public, permissions = standing
    return DatasetRow(
        DatasetId(dataset_id),
        org_slug,
        slug,
        name,
        tagline,
        Visibility(visibility),
        created_at,
        _standing(org_id, owner_id, permissions, public=is_public),
    )


async def find_dataset(
    connection: AsyncConnection, org_slug: str, slug: str, *, seen_by: UserId | None
) -> DatasetRow | None:
    """The dataset of that organization and slug."""
    named = {"seen_by": seen_by, "org_slug": org_slug, "slug": slug}
    row = (await connection.execute(_FIND_DATASET, named)).one_or_none()
    return None if row is None else dataset_row(row)


async def get_dataset(
    connection: AsyncConnection, dataset_id: DatasetId, *, seen_by: UserId | None
) -> DatasetRow | None:
    """The dataset of that id."""
    named = {"seen_by": seen_by, "dataset_id": dataset_id}
    row = (await connection.execute(_GET_DATASET, named)).one_or_none()
    return None if row is None else dataset_row(row)


@dataclass(frozen=True, slots=True)
class VisibleTo:
    """A user who sees a dataset."""

    user_name: str
    is_admin: bool
    is_deactivated: bool


async def get_dataset_and_user(
    connection: AsyncConnection, dataset_id: DatasetId, *, seen_by: UserId | None
) -> tuple[DatasetRow, VisibleTo | None] | None:
    """The dataset of that id, and who sees it as that user is now; None for the user if there is none."""
    named = {"seen_by": seen_by, "dataset_id": dataset_id}
    row = (await connection.execute(_GET_DATASET_AND_USER, named)).one_or_none()
    if row is None:
        return None
    *dataset, user_name, is_admin, is_deactivated = row
    user = None if user_name is None else VisibleTo(user_name, is_admin, is_deactivated)
    return dataset_row(dataset), user


async def list_datasets(
    connection: AsyncConnection, org_id: OrgId, *, seen_by: UserId | None
) -> list[DatasetRow]:
    """An organization's datasets, by slug."""
    named = {"seen_by": seen_by, "org_id": org_id}
    return [dataset_row(row) for row in await connection.execute(_LIST_DATASETS, named)]


async def add_dataset(  # noqa: PLR0913  the columns of a dataset
    connection: AsyncConnection,
    *,
    dataset_id: DatasetId,
    org_id: OrgId,
    slug: str,
    name: str,
    tagline: str,
    visibility: Visibility,
) -> None:
    """Insert a dataset.

    Raises:
        sqlalchemy.exc.IntegrityError: the slug is taken in the organization.
    """
    await connection.execute(
        insert(Dataset).values(
            id=dataset_id,
            org_id=org_id,
            slug=slug,
            name=name,
            tagline=tagline,
            visibility=visibility,
        )
    )


async def update_dataset(
    connection: AsyncConnection, dataset_id: DatasetId, *, name: str, tagline: str, visibility: Visibility
) -> None:
    """Change what a dataset is called and who may see it."""
    await connection.execute(
        update(Dataset)
        .where(Dataset.id == dataset_id)
        .values(name=name, tagline=tagline, visibility=visibility)
    )


async def rename_dataset(connection: AsyncConnection, dataset_id: DatasetId, *, slug: str) -> None:
    """Give a dataset another slug; its entries and tasks stay with it.

    Raises:
        sqlalchemy.exc.IntegrityError: the slug is taken in the organization.
    """
    alive = (Dataset.id == dataset_id, Dataset.deleted_at.is_(None))
    await connection.execute(update(Dataset).where(*alive).values(slug=slug))


_HOLD = (
    select(Dataset.id)
    .where(Dataset.id == bindparam("dataset_id"), Dataset.deleted_at.is_(None))
    .with_for_update(read=True)
)


async def hold_dataset(connection: AsyncConnection, dataset_id: DatasetId) -> bool:
    """Keep the dataset from being deleted until the transaction ends; False if it has been."""
    return (await connection.execute(_HOLD, {"dataset_id": dataset_id})).first() is not None


async def delete_dataset(connection: AsyncConnection, dataset_id: DatasetId) -> None:
    """Take a dataset out of everybody's sight, and free its slug; the sweep does the rest."""
    alive = (Dataset.id == dataset_id, Dataset.deleted_at.is_(None))
    await connection.execute(update(Dataset).where(*alive).values(**_gone(Dataset)))


def _gone(table: type[Organization | Dataset]) -> dict[str, Any]:
    # Nobody can give or ask for a slug that begins so.
    return {"deleted_at": db_now(), "slug": literal("--") + cast(table.id, Text)}
