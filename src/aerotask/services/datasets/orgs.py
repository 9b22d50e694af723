"""Organizations, their members, and their datasets."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.db.engine import Database
from aerotask.domain import paths
from aerotask.domain.access import Access, Caller, Membership, Visibility, rights_in, rights_on
from aerotask.domain.audit import AuditAction
from aerotask.domain.errors import Conflict, Forbidden, InvalidInput, LimitReached, NotFound
from aerotask.domain.ids import DatasetId, OrgId, UserId, new_id
from aerotask.domain.settings import StorageQuota
from aerotask.services.accounts.permissions import PermissionService, require_user
from aerotask.services.datasets.storage_quota import RETRY_AFTER_S, refuse_gift
from aerotask.store.accounts import audit, users
from aerotask.store.datasets import deletion, orgs
from aerotask.store.datasets.orgs import DatasetRow, MemberRow, OrgRow


@dataclass(frozen=True, slots=True)
class OrgService:
    """What can be done to organizations and datasets as wholes."""

    db: Database
    access: PermissionService
    storage: StorageQuota
    max_per_owner: int
    """How many organizations somebody who isn't a system administrator may own."""

    async def list_orgs(self, caller: Caller) -> list[OrgRow]:
        """The organizations that the caller may see."""
        async with self.db.read() as connection:
            if caller.is_admin:
                return await orgs.list_all(connection, seen_by=caller.user_id)
            return await orgs.list_visible(connection, seen_by=caller.user_id)

    async def create_org(
        self, caller: Caller, *, slug: str, name: str, description: str, is_public: bool
    ) -> OrgRow:
        """Add an organization owned by the caller.

        Raises:
            InvalidInput: the slug isn't one.
            Conflict: the slug is taken.
            LimitReached: the caller owns very many.
        """
        owner_id = require_user(caller)
        paths.slug(slug)
        try:
            async with self.db.begin() as connection:
                if not caller.is_admin:
                    await self._refuse_too_many(connection, owner_id)
                await orgs.add(
                    connection,
                    org_id=OrgId(new_id()),
                    slug=slug,
                    name=name or slug,
                    description=description,
                    is_public=is_public,
                    owner_id=owner_id,
                )
                if is_public:
                    await _note_org_visibility(connection, caller, slug, is_public=True)
        except IntegrityError as error:
            raise Conflict(
                f"The slug '{slug}' is taken.", code="slug-taken", location=f"/orgs/{slug}"
            ) from error
        return await self.access.org(caller, slug)

    async def update_org(  # noqa: PLR0913  what an organization is made of
        self,
        caller: Caller,
        slug: str,
        *,
        name: str,
        description: str,
        is_public: bool,
        owner: str | None = None,
    ) -> OrgRow:
        """Change what an organization is called; for its administrators. And whose it is, for its owner.

        Raises:
            Forbidden: the caller would give away what isn't theirs.
            InvalidInput: there is no such user to give it to.
            LimitReached: they would own too many, or store too much.
        """
        org = await self.access.org(caller, slug, to=Access.ADMIN)
        async with self.db.begin() as connection:
            if owner is not None and owner != org.owner:
                await self._transfer(connection, caller, org, owner)
            await orgs.update_org(
                connection, org.id, name=name or slug, description=description, is_public=is_public
            )
            if is_public is not org.is_public:
                await _note_org_visibility(connection, caller, slug, is_public=is_public)
        return await self.access.org(caller, slug)

    async def _transfer(self, connection: AsyncConnection, caller: Caller, org: OrgRow, to: str) -> None:
        if not (caller.is_admin or (caller.user_id is not None and caller.user_id == org.standing.owner_id)):
            raise Forbidden("Only the organization's owner, or a system administrator, may give it away.")
        user = await users.find_by_name(connection, to)
        if user is None or user.is_deactivated:
            raise InvalidInput(f"There is no user '{to}' who could own it.", code="no-such-user")
        if not user.is_admin:
            await self._refuse_too_many(connection, user.id)
        await orgs.transfer_org(connection, org.id, user.id)
        await refuse_gift(connection, self.storage, org.id, to=user.id)
        await audit.record(connection, caller, AuditAction.OWNER_CHANGED, f"/orgs/{org.slug}", now=to)

    async def _refuse_too_many(self, connection: AsyncConnection, owner_id: UserId) -> None:
        """Before the user becomes the owner of one more, in that transaction."""
        await users.hold(connection, owner_id)
        owned = await orgs.count_owned(connection, owner_id)
        if owned >= self.max_per_owner:
            raise LimitReached(
                f"One user owns at most {self.max_per_owner} organizations; delete some that are of no use.",
                limit_name="maxOrgsPerUser",
                limit=self.max_per_owner,
                current=owned,
                retry_after_s=RETRY_AFTER_S,
            )

    async def delete_org(self, caller: Caller, slug: str) -> None:
        """Remove an organization with everything in it; for its administrators.

        Nobody sees it from now on, its running tasks are cancelled, and the sweep removes the rest.
        """
        org = await self.access.org(caller, slug, to=Access.ADMIN)
        async with self.db.begin() as connection:
            await orgs.delete_org(connection, org.id)
            await audit.record(connection, caller, AuditAction.ORG_DELETED, f"/orgs/{slug}")
        await self._cancel_tasks(caller, deletion.in_org(org.id))

    async def list_members(self, caller: Caller, slug: str) -> list[MemberRow]:
        """An organization's members; for its administrators."""
        org = await self.access.org(caller, slug, to=Access.ADMIN)
        async with self.db.read() as connection:
            return await orgs.list_members(connection, org.id)

    async def set_member(self, caller: Caller, slug: str, *, user_name: str, permissions: Membership) -> None:
        """Make a user a member with these permissions; for the organization's administrators.

        Raises:
            InvalidInput: there is no such user.
        """
        org = await self.access.org(caller, slug, to=Access.ADMIN)
        async with self.db.begin() as connection:
            user = await users.find_by_name(connection, user_name)
            if user is None:
                raise InvalidInput(f"There is no user '{user_name}'.", code="no-such-user")
            await orgs.set_member(connection, org.id, user.id, permissions)
            target = f"/orgs/{slug}/members/{user_name}"
            await audit.record(connection, caller, AuditAction.MEMBER_SET, target, permissions=permissions)

    async def remove_member(self, caller: Caller, slug: str, user_name: str) -> None:
        """Take a member's permissions away; for the organization's administrators.

        Raises:
            NotFound: they are no member.
        """
        org = await self.access.org(caller, slug, to=Access.ADMIN)
        async with self.db.begin() as connection:
            user = await users.find_by_name(connection, user_name)
            if user is None or not await orgs.remove_member(connection, org.id, user.id):
                raise NotFound(f"'{user_name}' is no member of '{slug}'.")
            target = f"/orgs/{slug}/members/{user_name}"
            await audit.record(connection, caller, AuditAction.MEMBER_REMOVED, target)

    async def list_datasets(self, caller: Caller, org_slug: str) -> list[DatasetRow]:
        """The datasets that the caller may see; unlisted ones are shown to members alone."""
        org = await self.access.org(caller, org_slug)
        async with self.db.read() as connection:
            rows = await orgs.list_datasets(connection, org.id, seen_by=caller.user_id)
        if rights_in(caller, org.standing):
            return rows
        return [row for row in rows if row.visibility is Visibility.PUBLIC]

    async def create_dataset(  # noqa: PLR0913  what a dataset is made of
        self,
        caller: Caller,
        org_slug: str,
        *,
        slug: str,
        name: str,
        tagline: str,
        visibility: Visibility,
    ) -> DatasetRow:
        """Add a dataset; for those who may write in the organization.

        Raises:
            InvalidInput: the slug isn't one.
            Conflict: the slug is taken.
        """
        org = await self.access.org(caller, org_slug, to=Access.WRITE)
        paths.slug(slug)
        try:
            async with self.db.begin() as connection:
                await orgs.add_dataset(
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
            raise _dataset_slug_taken(org_slug, slug) from error
        return (await self.access.dataset(caller, org_slug, slug)).row

    async def update_dataset(  # noqa: PLR0913  what a dataset is made of
        self,
        caller: Caller,
        org_slug: str,
        slug: str,
        *,
        name: str,
        tagline: str,
        visibility: Visibility,
    ) -> DatasetRow:
        """Change what a dataset is called and who may see it; for the organization's administrators."""
        row = (await self.access.dataset(caller, org_slug, slug, to=Access.ADMIN)).row
        async with self.db.begin() as connection:
            await orgs.update_dataset(
                connection, row.id, name=name or slug, tagline=tagline, visibility=visibility
            )
            if visibility is not row.visibility:
                target = f"/orgs/{org_slug}/ds/{slug}"
                await audit.record(connection, caller, AuditAction.VISIBILITY_CHANGED, target, now=visibility)
        return (await self.access.dataset(caller, org_slug, slug)).row

    async def rename_dataset(self, caller: Caller, org_slug: str, slug: str, *, to_slug: str) -> DatasetRow:
        """Give a dataset another slug; entries and tasks go with it. For the organization's administrators.

        Raises:
            InvalidInput: the slug isn't one.
            Conflict: the slug is taken.
        """
        row = (await self.access.dataset(caller, org_slug, slug, to=Access.ADMIN)).row
        paths.slug(to_slug)
        try:
            async with self.db.begin() as connection:
                await orgs.rename_dataset(connection, row.id, slug=to_slug)
        except IntegrityError as error:
            raise _dataset_slug_taken(org_slug, to_slug) from error
        return (await self.access.dataset(caller, org_slug, to_slug)).row

    async def delete_dataset(self, caller: Caller, org_slug: str, slug: str) -> None:
        """Remove a dataset with its entries and tasks; for the organization's administrators.

        Nobody sees it from now on, its running tasks are cancelled, and the sweep removes the rest.
        """
        row = (await self.access.dataset(caller, org_slug, slug, to=Access.ADMIN)).row
        async with self.db.begin() as connection:
            await orgs.delete_dataset(connection, row.id)
            await audit.record(connection, caller, AuditAction.DATASET_DELETED, f"/orgs/{org_slug}/ds/{slug}")
        await self._cancel_tasks(caller, deletion.in_dataset(row.id))

    async def _cancel_tasks(self, caller: Caller, which: deletion.Which) -> None:
        # After the commit that hides the dataset, so that no new task comes behind this, and no worker that
        # is about to change the dataset has to wait for us while we wait for it.
        async with self.db.begin() as connection:
            await deletion.cancel_tasks(connection, which, by=caller.display_name)


def permissions_of(caller: Caller, row: DatasetRow) -> frozenset[Access]:
    """What the caller may do to the dataset, for its description."""
    return rights_on(caller, row.standing, row.visibility)


async def _note_org_visibility(
    connection: AsyncConnection, caller: Caller, slug: str, *, is_public: bool
) -> None:
    now = Visibility.PUBLIC if is_public else Visibility.PRIVATE
    await audit.record(connection, caller, AuditAction.VISIBILITY_CHANGED, f"/orgs/{slug}", now=now)


def _dataset_slug_taken(org_slug: str, slug: str) -> Conflict:
    return Conflict(
        f"The slug '{slug}' is taken in '{org_slug}'.",
        code="slug-taken",
        location=f"/orgs/{org_slug}/ds/{slug}",
    )
