"""Queries for datasets, each with the caller's standing in its organization."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.db.engine import AnySelect
from aerotask.db.models import Dataset, Member, Organization, User
from aerotask.domain.access import OrgStanding, Visibility
from aerotask.domain.ids import DatasetId, OrgId, UserId
from aerotask.store.datasets.orgs import IS_MEMBER, deleted_values, standing_of


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


COLUMNS = (
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
"""The columns that `dataset_row` takes; `Member` is the caller's membership."""
_DATASETS: AnySelect = (
    select(*COLUMNS)
    .join(Organization, Organization.id == Dataset.org_id)
    .outerjoin(Member, IS_MEMBER)
    .where(Dataset.deleted_at.is_(None))
)
_FIND = _DATASETS.where(Organization.slug == bindparam("org_slug"), Dataset.slug == bindparam("slug"))
_GET = _DATASETS.where(Dataset.id == bindparam("dataset_id"))
_GET_WITH_USER = _GET.outerjoin(User, User.id == bindparam("seen_by")).add_columns(
    User.user_name, User.is_admin, User.is_deactivated
)
_LIST = _DATASETS.where(Dataset.org_id == bindparam("org_id")).order_by(Dataset.slug)


def dataset_row(columns: Sequence[Any]) -> DatasetRow:
    """A dataset from the values of `COLUMNS`."""
    dataset_id, org_slug, slug, name, tagline, visibility, created_at, *standing = columns
    org_id, owner_id, is_public, permissions = standing
    return DatasetRow(
        DatasetId(dataset_id),
        org_slug,
        slug,
        name,
        tagline,
        Visibility(visibility),
        created_at,
        standing_of(org_id, owner_id, permissions, public=is_public),
    )


async def find(
    connection: AsyncConnection, org_slug: str, slug: str, *, seen_by: UserId | None
) -> DatasetRow | None:
    """The dataset of that organization and slug."""
    values = {"seen_by": seen_by, "org_slug": org_slug, "slug": slug}
    row = (await connection.execute(_FIND, values)).one_or_none()
    return None if row is None else dataset_row(row)


async def get(
    connection: AsyncConnection, dataset_id: DatasetId, *, seen_by: UserId | None
) -> DatasetRow | None:
    """The dataset of that id."""
    values = {"seen_by": seen_by, "dataset_id": dataset_id}
    row = (await connection.execute(_GET, values)).one_or_none()
    return None if row is None else dataset_row(row)


@dataclass(frozen=True, slots=True)
class VisibleTo:
    """A user with access to a dataset, as of now."""

    user_name: str
    is_admin: bool
    is_deactivated: bool


async def get_with_user(
    connection: AsyncConnection, dataset_id: DatasetId, *, seen_by: UserId | None
) -> tuple[DatasetRow, VisibleTo | None] | None:
    """The dataset of that id and the user `seen_by`; the user is None if there is no such user."""
    values = {"seen_by": seen_by, "dataset_id": dataset_id}
    row = (await connection.execute(_GET_WITH_USER, values)).one_or_none()
    if row is None:
        return None
    *dataset, user_name, is_admin, is_deactivated = row
    user = None if user_name is None else VisibleTo(user_name, is_admin, is_deactivated)
    return dataset_row(dataset), user


async def list_in_org(
    connection: AsyncConnection, org_id: OrgId, *, seen_by: UserId | None
) -> list[DatasetRow]:
    """An organization's datasets, by slug."""
    values = {"seen_by": seen_by, "org_id": org_id}
    return [dataset_row(row) for row in await connection.execute(_LIST, values)]


async def add(  # noqa: PLR0913  the columns of a dataset
    connection: AsyncConnection,
    *,
    dataset_id: DatasetId,
    org_id: OrgId,
    slug: str,
    name: str,
    tagline: str,
    visibility: Visibility,
) -> None:
    """Inserts a dataset.

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
    """Updates a dataset's name, tagline and visibility."""
    await connection.execute(
        update(Dataset)
        .where(Dataset.id == dataset_id)
        .values(name=name, tagline=tagline, visibility=visibility)
    )


async def rename(connection: AsyncConnection, dataset_id: DatasetId, *, slug: str) -> None:
    """Changes a dataset's slug; its entries and tasks stay with it.

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


async def hold(connection: AsyncConnection, dataset_id: DatasetId) -> bool:
    """Prevents the deletion of the dataset until the transaction ends; False if it is deleted already."""
    return (await connection.execute(_HOLD, {"dataset_id": dataset_id})).first() is not None


async def delete_dataset(connection: AsyncConnection, dataset_id: DatasetId) -> None:
    """Marks a dataset as deleted and frees its slug; maintenance removes the rows."""
    alive = (Dataset.id == dataset_id, Dataset.deleted_at.is_(None))
    await connection.execute(update(Dataset).where(*alive).values(**deleted_values(Dataset)))
