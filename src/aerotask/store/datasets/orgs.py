"""Queries for organizations and their members."""

from __future__ import annotations

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
from aerotask.domain.access import Membership, OrgStanding
from aerotask.domain.ids import OrgId, UserId


@dataclass(frozen=True, slots=True)
class OrgRow:
    """An organization with the caller's standing in it."""

    id: OrgId
    slug: str
    name: str
    description: str
    is_public: bool
    owner: str | None
    created_at: datetime
    standing: OrgStanding


@dataclass(frozen=True, slots=True)
class MemberRow:
    """A member of an organization."""

    user_name: str
    permissions: Membership
    created_at: datetime


IS_MEMBER = and_(
    Member.org_id == Organization.id, Member.user_id == bindparam("seen_by", type_=Member.user_id.type)
)
"""Joins the membership of the caller, whose id is `seen_by`; none for an anonymous caller, whose id is NULL."""
# Statements are built once: building and adapting one costs more than running it.
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
    .outerjoin(Member, IS_MEMBER)
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


def standing_of(org_id: UUID, owner_id: UUID | None, permissions: str | None, *, public: bool) -> OrgStanding:
    """The caller's standing from an organization's columns and the caller's membership."""
    return OrgStanding(
        OrgId(org_id),
        None if owner_id is None else UserId(owner_id),
        None if permissions is None else Membership(permissions),
        is_public=public,
    )


def _org(row: AnyRow) -> OrgRow:
    standing = standing_of(row.id, row.owner_id, row.permissions, public=row.is_public)
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
    """Number of organizations that the user owns."""
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
    """Inserts an organization.

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
    """Updates an organization's name, description and visibility."""
    await connection.execute(
        update(Organization)
        .where(Organization.id == org_id)
        .values(name=name, description=description, is_public=is_public)
    )


async def transfer_org(connection: AsyncConnection, org_id: OrgId, to: UserId) -> None:
    """Makes the user the organization's owner; the former owner becomes one of its administrators."""
    query = select(Organization.owner_id).where(Organization.id == org_id).with_for_update()
    former = (await connection.execute(query)).scalar_one_or_none()
    await connection.execute(update(Organization).where(Organization.id == org_id).values(owner_id=to))
    await remove_member(connection, org_id, to)
    if former is not None and former != to:
        await set_member(connection, org_id, UserId(former), Membership.ADMIN)


async def delete_org(connection: AsyncConnection, org_id: OrgId) -> None:
    """Marks an organization and its datasets as deleted and frees their slugs; maintenance removes the rows."""
    for table, condition in ((Organization, Organization.id == org_id), (Dataset, Dataset.org_id == org_id)):
        await connection.execute(
            update(table).where(condition, table.deleted_at.is_(None)).values(**deleted_values(table))
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
    """Adds a member or changes their permissions."""
    await connection.execute(
        upsert(Member)
        .values(org_id=org_id, user_id=user_id, permissions=permissions)
        .on_conflict_do_update(
            index_elements=[Member.org_id, Member.user_id], set_={"permissions": permissions}
        )
    )


async def remove_member(connection: AsyncConnection, org_id: OrgId, user_id: UserId) -> bool:
    """Removes the member; False if there was none."""
    removed = await connection.execute(
        delete(Member).where(Member.org_id == org_id, Member.user_id == user_id)
    )
    return bool(removed.rowcount)


def deleted_values(table: type[Organization | Dataset]) -> dict[str, Any]:
    """The values that hide a row and free its slug."""
    # No valid slug starts with two hyphens.
    return {"deleted_at": db_now(), "slug": literal("--") + cast(table.id, Text)}
