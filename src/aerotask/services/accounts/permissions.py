"""Who may do what, asked in one place: every route and every starting task comes through here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from aerotask.db.engine import Database
from aerotask.domain.access import Access, Caller, rights_in, rights_on
from aerotask.domain.errors import Forbidden, NotFound, Unauthenticated
from aerotask.domain.ids import DatasetId, TaskId, UserId
from aerotask.services.accounts.principal import Presented, confirmed, user_id_of
from aerotask.store.datasets import datasets, orgs
from aerotask.store.datasets.datasets import DatasetRow
from aerotask.store.datasets.orgs import OrgRow
from aerotask.store.tasks import request_context
from aerotask.store.tasks.tasks import TaskRow

_NEEDED = {
    Access.READ: "read it",
    Access.WRITE: "change it",
    Access.DELETE: "delete from it",
    Access.ADMIN: "administer it",
}


Reauthenticate: TypeAlias = Callable[[], Awaitable[Caller]]
"""Finds out anew who is calling, by the credentials that came with the request."""


@dataclass(frozen=True, slots=True)
class AccessibleDataset:
    """A dataset that the caller may see, and what they may do to it."""

    row: DatasetRow
    rights: frozenset[Access]


@dataclass(frozen=True, slots=True)
class PermissionService:
    """Decides by the table in `domain/access.py` over what the database says now."""

    db: Database

    async def dataset(
        self, caller: Caller, org_slug: str, slug: str, *, to: Access = Access.READ
    ) -> AccessibleDataset:
        """The dataset, if the caller may do that to it.

        Raises:
            Unauthenticated: nobody is signed in and the dataset is not open to all, or does not exist.
            NotFound: the caller is signed in and may not see it, or it does not exist.
            Forbidden: the caller may see it but not do this.
        """
        async with self.db.read() as connection:
            row = await datasets.find(connection, org_slug, slug, seen_by=caller.user_id)
        opened = _opened(caller, row, f"{org_slug}/{slug}")
        require(caller, opened.rights, to)
        return opened

    async def arrive(self, who: Presented, org_slug: str, slug: str) -> tuple[Caller, AccessibleDataset]:
        """Who calls, and the dataset if they may read it, in a single look at the database.

        Raises:
            Unauthenticated, NotFound: as for a dataset.
        """
        async with self.db.read() as connection:
            found = await request_context.look(connection, user_id_of(who), org_slug, slug)
        caller = confirmed(who, found.user)
        return caller, _opened(caller, found.dataset, f"{org_slug}/{slug}")

    async def task(
        self, who: Presented, org_slug: str, slug: str, task_id: TaskId
    ) -> tuple[Caller, AccessibleDataset, TaskRow | None]:
        """Who calls, and the dataset and its task if they may read it, in a single look at the database.

        Raises:
            Unauthenticated, NotFound: as for a dataset; a task that isn't there is None.
        """
        async with self.db.read() as connection:
            found = await request_context.look(connection, user_id_of(who), org_slug, slug, task_id=task_id)
        caller = confirmed(who, found.user)
        return caller, _opened(caller, found.dataset, f"{org_slug}/{slug}"), found.task

    async def known_dataset(self, caller: Caller, dataset_id: DatasetId, *, to: Access) -> None:
        """As `dataset`, of one that has been found already, whatever it is called by now."""
        async with self.db.read() as connection:
            row = await datasets.get(connection, dataset_id, seen_by=caller.user_id)
        rights = rights_on(caller, row.standing, row.visibility) if row else frozenset[Access]()
        if Access.READ not in rights:
            raise hidden(caller, "The dataset has been deleted meanwhile, or you may not see it any more.")
        require(caller, rights, to)

    async def org(self, caller: Caller, slug: str, *, to: Access = Access.READ) -> OrgRow:
        """The organization, if the caller may do that in it; public ones may be seen by all.

        Raises:
            Unauthenticated, NotFound, Forbidden: as for a dataset.
        """
        async with self.db.read() as connection:
            row = await orgs.find(connection, slug, seen_by=caller.user_id)
        rights = rights_in(caller, row.standing) if row else frozenset[Access]()
        if row is None or not (rights or row.is_public):
            raise hidden(caller, f"There is no organization '{slug}'.")
        if row.is_public:
            rights |= {Access.READ}
        require(caller, rights, to)
        return row

    async def rights_of_user(self, user_id: UserId | None, dataset_id: DatasetId) -> frozenset[Access]:
        """What a task's owner (None: anybody) may do to the dataset now; nothing if either is gone."""
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


def _opened(caller: Caller, row: DatasetRow | None, name: str) -> AccessibleDataset:
    rights = rights_on(caller, row.standing, row.visibility) if row else frozenset[Access]()
    if row is None or Access.READ not in rights:
        raise hidden(caller, f"There is no dataset '{name}'.")
    return AccessibleDataset(row, rights)


@dataclass(frozen=True, slots=True)
class Grant:
    """A caller's right to do something to a dataset; asked for again when what takes long has been done."""

    access: PermissionService
    ask: Reauthenticate
    dataset_id: DatasetId
    to: Access

    async def confirm(self) -> None:
        """Let the call go on if its credentials and rights still hold: a body may have taken hours.

        Raises:
            Unauthenticated, NotFound, Forbidden: they don't.
        """
        await self.access.known_dataset(await self.ask(), self.dataset_id, to=self.to)


def require(caller: Caller, rights: frozenset[Access], needed: Access) -> None:
    """Let the call go on if the rights contain what it needs.

    Raises:
        Unauthenticated: the caller's credentials don't hold, so signing in may help.
        Forbidden: the caller may not do this.
    """
    if needed in rights:
        return
    if caller.rejected_credentials:
        raise Unauthenticated(caller.rejected_credentials, code="bad-credentials")
    raise Forbidden(f"You may see this, but you have no right to {_NEEDED[needed]}.")


def require_user(caller: Caller) -> UserId:
    """The id of the signed-in caller.

    Raises:
        Unauthenticated: nobody is signed in.
    """
    if caller.user_id is None:
        raise _not_signed_in(caller)
    return caller.user_id


def require_admin(caller: Caller) -> None:
    """Let system administrators through.

    Raises:
        Unauthenticated: nobody is signed in.
        Forbidden: the caller is no administrator.
    """
    require_user(caller)
    if not caller.is_admin:
        raise Forbidden("Only a system administrator may do this.")


def hidden(caller: Caller, message: str) -> NotFound | Unauthenticated:
    """What to answer about a thing that is absent or that the caller may not see: the same for both."""
    return _not_signed_in(caller) if caller.anonymous else NotFound(message)


def _not_signed_in(caller: Caller) -> Unauthenticated:
    if caller.rejected_credentials:
        return Unauthenticated(caller.rejected_credentials, code="bad-credentials")
    return Unauthenticated(
        "Sign in first: POST /users/authenticate gives a token for the Authorization header."
    )
