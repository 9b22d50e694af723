"""Organizations and their members."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.db.engine import Database
from aerotask.domain import paths
from aerotask.domain.access import Access, Caller, Membership, Visibility
from aerotask.domain.audit import AuditAction
from aerotask.domain.errors import Conflict, Forbidden, LimitReached, NotFound
from aerotask.domain.ids import OrgId, UserId, new_id
from aerotask.domain.settings import StorageQuota
from aerotask.services.accounts.permissions import PermissionService, require_user
from aerotask.services.accounts.user_lookup import UserLookup, no_such_user
from aerotask.services.datasets.deletion import cancel_tasks
from aerotask.services.datasets.storage_quota import RETRY_AFTER_S, check_transfer
from aerotask.store.accounts import audit, users
from aerotask.store.accounts.users import UserRow
from aerotask.store.datasets import deletion, orgs
from aerotask.store.datasets.orgs import MemberRow, OrgRow


@dataclass(frozen=True, slots=True)
class OrgService:
    """Operations on organizations and their members."""

    db: Database
    access: PermissionService
    lookup: UserLookup
    storage: StorageQuota
    max_per_owner: int
    """Organizations that a user who isn't a system administrator may own."""

    async def list_orgs(self, caller: Caller) -> list[OrgRow]:
        """The organizations that the caller may see."""
        async with self.db.read() as connection:
            if caller.is_admin:
                return await orgs.list_all(connection, seen_by=caller.user_id)
            return await orgs.list_visible(connection, seen_by=caller.user_id)

    async def create_org(
        self, caller: Caller, *, slug: str, name: str, description: str, is_public: bool
    ) -> OrgRow:
        """Creates an organization owned by the caller.

        Raises:
            InvalidInput: the slug is invalid.
            Conflict: the slug is taken.
            LimitReached: the caller owns too many.
        """
        owner_id = require_user(caller)
        paths.slug(slug)
        try:
            async with self.db.begin() as connection:
                if not caller.is_admin:
                    await self._check_owned_count(connection, owner_id)
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
                    await _record_visibility(connection, caller, slug, is_public=True)
        except IntegrityError as error:
            raise Conflict(
                f"The slug '{slug}' is taken.", code="slug-taken", location=f"/orgs/{slug}"
            ) from error
        return await self.access.org(caller, slug)

    async def update_org(  # noqa: PLR0913  the properties of an organization
        self,
        caller: Caller,
        slug: str,
        *,
        name: str,
        description: str,
        is_public: bool,
        owner: str | None = None,
    ) -> OrgRow:
        """Updates an organization, for its administrators; only its owner may transfer it to `owner`.

        Raises:
            Forbidden: the caller may not transfer the organization.
            InvalidInput: there is no such user.
            LimitReached: the new owner would own too many, or store too much; or the caller named too many unknown users.
        """
        org = await self.access.org(caller, slug, to=Access.ADMIN)
        new_owner = None
        if owner is not None and owner != org.owner:
            new_owner = await self._find_new_owner(caller, org, owner)
        async with self.db.begin() as connection:
            if new_owner is not None:
                await self._transfer(connection, caller, org, new_owner)
            await orgs.update_org(
                connection, org.id, name=name or slug, description=description, is_public=is_public
            )
            if is_public is not org.is_public:
                await _record_visibility(connection, caller, slug, is_public=is_public)
        return await self.access.org(caller, slug)

    async def _find_new_owner(self, caller: Caller, org: OrgRow, user_name: str) -> UserRow:
        if not (caller.is_admin or (caller.user_id is not None and caller.user_id == org.standing.owner_id)):
            raise Forbidden("Only the organization's owner or a system administrator may transfer it.")
        return await self.lookup.find(caller, user_name, active=True)

    async def _transfer(
        self, connection: AsyncConnection, caller: Caller, org: OrgRow, new_owner: UserRow
    ) -> None:
        if not new_owner.is_admin:
            await self._check_owned_count(connection, new_owner.id)
        try:
            await orgs.transfer_org(connection, org.id, new_owner.id)
        except IntegrityError as error:  # the user was removed after the lookup
            raise no_such_user(new_owner.user_name) from error
        await check_transfer(connection, self.storage, org.id, to=new_owner.id)
        target = f"/orgs/{org.slug}"
        await audit.record(connection, caller, AuditAction.OWNER_CHANGED, target, now=new_owner.user_name)

    async def _check_owned_count(self, connection: AsyncConnection, owner_id: UserId) -> None:
        """Raises if the user owns as many as allowed; in the transaction that adds another."""
        await users.lock(connection, owner_id)
        owned = await orgs.count_owned(connection, owner_id)
        if owned >= self.max_per_owner:
            raise LimitReached(
                f"A user may own at most {self.max_per_owner} organizations; delete some that you don't need.",
                limit_name="maxOrgsPerUser",
                limit=self.max_per_owner,
                current=owned,
                retry_after_s=RETRY_AFTER_S,
            )

    async def delete_org(self, caller: Caller, slug: str) -> None:
        """Deletes an organization with everything in it; for its administrators.

        It is hidden at once and its running tasks are cancelled; maintenance removes the rest.
        """
        org = await self.access.org(caller, slug, to=Access.ADMIN)
        async with self.db.begin() as connection:
            await orgs.delete_org(connection, org.id)
            await audit.record(connection, caller, AuditAction.ORG_DELETED, f"/orgs/{slug}")
        await cancel_tasks(self.db, caller, deletion.in_org(org.id))

    async def list_members(self, caller: Caller, slug: str) -> list[MemberRow]:
        """An organization's members; for its administrators."""
        org = await self.access.org(caller, slug, to=Access.ADMIN)
        async with self.db.read() as connection:
            return await orgs.list_members(connection, org.id)

    async def set_member(self, caller: Caller, slug: str, *, user_name: str, permissions: Membership) -> None:
        """Adds a member or changes their permissions; for the organization's administrators.

        Raises:
            InvalidInput: there is no such user.
            LimitReached: the caller named too many unknown users.
        """
        org = await self.access.org(caller, slug, to=Access.ADMIN)
        user = await self.lookup.find(caller, user_name)
        async with self.db.begin() as connection:
            try:
                await orgs.set_member(connection, org.id, user.id, permissions)
            except IntegrityError as error:  # the user was removed after the lookup
                raise no_such_user(user_name) from error
            target = f"/orgs/{slug}/members/{user_name}"
            await audit.record(connection, caller, AuditAction.MEMBER_SET, target, permissions=permissions)

    async def remove_member(self, caller: Caller, slug: str, user_name: str) -> None:
        """Removes a member; for the organization's administrators.

        Raises:
            NotFound: the user is not a member.
        """
        org = await self.access.org(caller, slug, to=Access.ADMIN)
        async with self.db.begin() as connection:
            user = await users.find_by_name(connection, user_name)
            if user is None or not await orgs.remove_member(connection, org.id, user.id):
                raise NotFound(f"'{user_name}' is not a member of '{slug}'.")
            target = f"/orgs/{slug}/members/{user_name}"
            await audit.record(connection, caller, AuditAction.MEMBER_REMOVED, target)


async def _record_visibility(
    connection: AsyncConnection, caller: Caller, slug: str, *, is_public: bool
) -> None:
    now = Visibility.PUBLIC if is_public else Visibility.PRIVATE
    await audit.record(connection, caller, AuditAction.VISIBILITY_CHANGED, f"/orgs/{slug}", now=now)
