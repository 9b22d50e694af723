"""Datasets of an organization: list, create, update, rename, delete."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.exc import IntegrityError

from aerotask.db.engine import Database
from aerotask.domain import paths
from aerotask.domain.access import Access, Caller, Visibility, rights_in, rights_on
from aerotask.domain.audit import AuditAction
from aerotask.domain.errors import Conflict
from aerotask.domain.ids import DatasetId, new_id
from aerotask.services.accounts.permissions import PermissionService
from aerotask.services.datasets.deletion import cancel_tasks
from aerotask.store.accounts import audit
from aerotask.store.datasets import datasets, deletion
from aerotask.store.datasets.datasets import DatasetRow


@dataclass(frozen=True, slots=True)
class DatasetService:
    """Operations on whole datasets."""

    db: Database
    access: PermissionService

    async def list_datasets(self, caller: Caller, org_slug: str) -> list[DatasetRow]:
        """The datasets that the caller may see; unlisted ones are listed for members only."""
        org = await self.access.org(caller, org_slug)
        async with self.db.read() as connection:
            rows = await datasets.list_in_org(connection, org.id, seen_by=caller.user_id)
        if rights_in(caller, org.standing):
            return rows
        return [row for row in rows if row.visibility is Visibility.PUBLIC]

    async def create_dataset(  # noqa: PLR0913  the properties of a dataset
        self,
        caller: Caller,
        org_slug: str,
        *,
        slug: str,
        name: str,
        tagline: str,
        visibility: Visibility,
    ) -> DatasetRow:
        """Creates a dataset; needs write access to the organization.

        Raises:
            InvalidInput: the slug is invalid.
            Conflict: the slug is taken.
        """
        org = await self.access.org(caller, org_slug, to=Access.WRITE)
        paths.slug(slug)
        try:
            async with self.db.begin() as connection:
                await datasets.add(
                    connection,
                    dataset_id=DatasetId(new_id()),
                    org_id=org.id,
                    slug=slug,
                    name=name or slug,
                    tagline=tagline,
                    visibility=visibility,
                )
                if visibility is not Visibility.PRIVATE:
                    target = f"/orgs/{org_slug}/ds/{slug}"
                    await audit.record(
                        connection, caller, AuditAction.VISIBILITY_CHANGED, target, now=visibility
                    )
        except IntegrityError as error:
            raise _slug_taken(org_slug, slug) from error
        return (await self.access.dataset(caller, org_slug, slug)).row

    async def update_dataset(  # noqa: PLR0913  the properties of a dataset
        self,
        caller: Caller,
        org_slug: str,
        slug: str,
        *,
        name: str,
        tagline: str,
        visibility: Visibility,
    ) -> DatasetRow:
        """Updates a dataset's name, tagline and visibility; for the organization's administrators."""
        row = (await self.access.dataset(caller, org_slug, slug, to=Access.ADMIN)).row
        async with self.db.begin() as connection:
            await datasets.update_dataset(
                connection, row.id, name=name or slug, tagline=tagline, visibility=visibility
            )
            if visibility is not row.visibility:
                target = f"/orgs/{org_slug}/ds/{slug}"
                await audit.record(connection, caller, AuditAction.VISIBILITY_CHANGED, target, now=visibility)
        return (await self.access.dataset(caller, org_slug, slug)).row

    async def rename_dataset(self, caller: Caller, org_slug: str, slug: str, *, to_slug: str) -> DatasetRow:
        """Changes a dataset's slug; its entries and tasks stay with it. For the organization's administrators.

        Raises:
            InvalidInput: the slug is invalid.
            Conflict: the slug is taken.
        """
        row = (await self.access.dataset(caller, org_slug, slug, to=Access.ADMIN)).row
        paths.slug(to_slug)
        try:
            async with self.db.begin() as connection:
                await datasets.rename(connection, row.id, slug=to_slug)
        except IntegrityError as error:
            raise _slug_taken(org_slug, to_slug) from error
        return (await self.access.dataset(caller, org_slug, to_slug)).row

    async def delete_dataset(self, caller: Caller, org_slug: str, slug: str) -> None:
        """Deletes a dataset with its entries and tasks; for the organization's administrators.

        It is hidden at once and its running tasks are cancelled; maintenance removes the rest.
        """
        row = (await self.access.dataset(caller, org_slug, slug, to=Access.ADMIN)).row
        async with self.db.begin() as connection:
            await datasets.delete_dataset(connection, row.id)
            await audit.record(connection, caller, AuditAction.DATASET_DELETED, f"/orgs/{org_slug}/ds/{slug}")
        await cancel_tasks(self.db, caller, deletion.in_dataset(row.id))


def permissions_of(caller: Caller, row: DatasetRow) -> frozenset[Access]:
    """The caller's rights on the dataset, for its representation."""
    return rights_on(caller, row.standing, row.visibility)


def _slug_taken(org_slug: str, slug: str) -> Conflict:
    return Conflict(
        f"The slug '{slug}' is taken in '{org_slug}'.",
        code="slug-taken",
        location=f"/orgs/{org_slug}/ds/{slug}",
    )
