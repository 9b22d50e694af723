"""Authorisation of every route and every starting task, in one place."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from aerotask.db.engine import Database
from aerotask.domain.access import OPERATOR, VISITOR_RIGHTS, Access, Caller, rights_in, rights_on
from aerotask.domain.errors import Forbidden, NotFound, Unauthenticated
from aerotask.domain.ids import DatasetId, TaskId, UserId
from aerotask.services.accounts.tokens import UnverifiedPrincipal, user_id_of, verify
from aerotask.store.datasets import datasets, orgs
from aerotask.store.datasets.datasets import DatasetRow
from aerotask.store.datasets.orgs import OrgRow
from aerotask.store.tasks import request_context
from aerotask.store.tasks.tasks import TaskRow

_NEEDED = {
    Access.READ: "read",
    Access.WRITE: "write",
    Access.DELETE: "delete",
    Access.ADMIN: "administrator",
}


Reauthenticate: TypeAlias = Callable[[], Awaitable[Caller]]
"""Verifies the request's credentials again and returns the caller."""


@dataclass(frozen=True, slots=True)
class AccessibleDataset:
    """A dataset that the caller may read, with their rights on it."""

    row: DatasetRow
    rights: frozenset[Access]

    @property
    def allows_anonymous(self) -> bool:
        """Whether reading needs no credentials: the dataset is public or unlisted."""
        return Access.READ in VISITOR_RIGHTS[self.row.visibility]


@dataclass(frozen=True, slots=True)
class PermissionService:
    """Applies the table in `domain/access.py` to the current rows of the database."""

    db: Database

    async def dataset(
        self, caller: Caller, org_slug: str, slug: str, *, to: Access = Access.READ
    ) -> AccessibleDataset:
        """The dataset, if the caller has the right `to`.

        Raises:
            Unauthenticated: the caller is anonymous, and the dataset is not public or does not exist.
            NotFound: the dataset does not exist, or the caller may not read it.
            Forbidden: the caller may read it but lacks the right.
        """
        async with self.db.read() as connection:
            row = await datasets.find(connection, org_slug, slug, seen_by=caller.user_id)
        dataset = _accessible(caller, row, f"{org_slug}/{slug}")
        require(caller, dataset.rights, to)
        return dataset

    async def authorize(
        self, principal: UnverifiedPrincipal, org_slug: str, slug: str
    ) -> tuple[Caller, AccessibleDataset]:
        """The verified caller, and the dataset if they may read it, in a single query.

        Raises:
            Unauthenticated, NotFound: as for a dataset.
        """
        async with self.db.read() as connection:
            found = await request_context.load(connection, user_id_of(principal), org_slug, slug)
        caller = verify(principal, found.user)
        return caller, _accessible(caller, found.dataset, f"{org_slug}/{slug}")

    async def authorize_task(
        self, principal: UnverifiedPrincipal, org_slug: str, slug: str, task_id: TaskId
    ) -> tuple[Caller, AccessibleDataset, TaskRow | None]:
        """The verified caller, and the dataset and task if they may read them, in a single query.

        Raises:
            Unauthenticated, NotFound: as for a dataset; a missing task is None.
        """
        async with self.db.read() as connection:
            found = await request_context.load(
                connection, user_id_of(principal), org_slug, slug, task_id=task_id
            )
        caller = verify(principal, found.user)
        return caller, _accessible(caller, found.dataset, f"{org_slug}/{slug}"), found.task

    async def recheck(self, caller: Caller, dataset_id: DatasetId, *, to: Access) -> None:
        """As `dataset`, for a dataset that was authorised earlier and may have been renamed since."""
        async with self.db.read() as connection:
            row = await datasets.get(connection, dataset_id, seen_by=caller.user_id)
        rights = rights_on(caller, row.standing, row.visibility) if row else frozenset[Access]()
        if Access.READ not in rights:
            raise not_visible(caller, "The dataset has been deleted, or you may no longer see it.")
        require(caller, rights, to)

    async def org(self, caller: Caller, slug: str, *, to: Access = Access.READ) -> OrgRow:
        """The organization, if the caller has the right `to`; anyone may read a public one.

        Raises:
            Unauthenticated, NotFound, Forbidden: as for a dataset.
        """
        async with self.db.read() as connection:
            row = await orgs.find(connection, slug, seen_by=caller.user_id)
        rights = rights_in(caller, row.standing) if row else frozenset[Access]()
        if row is None or not (rights or row.is_public):
            raise not_visible(caller, f"There is no organization '{slug}'.")
        if row.is_public:
            rights |= {Access.READ}
        require(caller, rights, to)
        return row

    async def rights_of_user(self, user_id: UserId | None, dataset_id: DatasetId) -> frozenset[Access]:
        """The current rights of a task's owner (None: anonymous); none if the owner or the dataset is removed."""
        async with self.db.read() as connection:
            found = await datasets.get_with_user(connection, dataset_id, seen_by=user_id)
        if found is None:
            return frozenset()
        row, user = found
        if user_id is not None and (user is None or user.is_deactivated):
            return frozenset()
        caller = Caller(
            user_id=user_id,
            user_name=user.user_name if user else None,
            is_admin=bool(user and user.is_admin),
        )
        return rights_on(caller, row.standing, row.visibility)


def _accessible(caller: Caller, row: DatasetRow | None, name: str) -> AccessibleDataset:
    rights = rights_on(caller, row.standing, row.visibility) if row else frozenset[Access]()
    if row is None or Access.READ not in rights:
        raise not_visible(caller, f"There is no dataset '{name}'.")
    return AccessibleDataset(row, rights)


@dataclass(frozen=True, slots=True)
class Grant:
    """A caller's right on a dataset, which is rechecked after long work."""

    access: PermissionService
    reauthenticate: Reauthenticate
    dataset_id: DatasetId
    to: Access

    async def recheck(self) -> None:
        """Raises unless the credentials and rights are still valid: a request's body may take hours.

        Raises:
            Unauthenticated, NotFound, Forbidden: they are not.
        """
        await self.access.recheck(await self.reauthenticate(), self.dataset_id, to=self.to)


def require(caller: Caller, rights: frozenset[Access], needed: Access) -> None:
    """Raises unless the rights include the needed one.

    Raises:
        Unauthenticated: the caller's credentials are invalid, so signing in may help.
        Forbidden: the caller lacks the right.
    """
    if needed in rights:
        return
    if caller.rejected_credentials:
        raise Unauthenticated(caller.rejected_credentials, code="bad-credentials")
    raise Forbidden(f"You may see this, but this action needs {_NEEDED[needed]} permission.")


def require_user(caller: Caller) -> UserId:
    """The id of the signed-in caller.

    Raises:
        Unauthenticated: the caller is anonymous.
    """
    if caller.user_id is None:
        raise _not_signed_in(caller)
    return caller.user_id


def require_admin(caller: Caller) -> None:
    """Raises unless the caller is a system administrator, or the operator at the command line.

    Raises:
        Unauthenticated: the caller is anonymous.
        Forbidden: the caller is not an administrator.
    """
    if caller is OPERATOR:
        return
    require_user(caller)
    if not caller.is_admin:
        raise Forbidden("Only system administrators may do this.")


def not_visible(caller: Caller, message: str) -> NotFound | Unauthenticated:
    """The same error for something that does not exist and for something that the caller may not see."""
    return _not_signed_in(caller) if caller.anonymous else NotFound(message)


def _not_signed_in(caller: Caller) -> Unauthenticated:
    if caller.rejected_credentials:
        return Unauthenticated(caller.rejected_credentials, code="bad-credentials")
    return Unauthenticated(
        "Sign in first: POST /users/authenticate gives a token for the Authorization header."
    )
