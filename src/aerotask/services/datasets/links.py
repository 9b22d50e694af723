"""Signed links: addresses that open a part of a dataset without a header, until they expire or are revoked."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.db.engine import Database
from aerotask.domain import paths
from aerotask.domain.access import Access, Caller, LinkScope, rights_on
from aerotask.domain.audit import AuditAction
from aerotask.domain.errors import Conflict, Forbidden, InvalidInput, NotFound
from aerotask.domain.ids import LinkId, TaskId, UserId, new_id
from aerotask.services.accounts.permissions import AccessibleDataset, PermissionService, require_user
from aerotask.services.accounts.wrong_tokens import WrongTokenLimit
from aerotask.store.accounts import audit, users
from aerotask.store.datasets import entries, links
from aerotask.store.datasets.datasets import DatasetRow
from aerotask.store.datasets.entries import FOLDER, EntryRow
from aerotask.store.datasets.links import LinkRow
from aerotask.store.tasks import tasks

# Lets secret scanners find leaked links.
PREFIX = "atl_"
_RANDOM_BYTES = 32
MAX_LINKS = 1000
"""Links of one user that have not expired."""
MAX_TAKE = 200


@dataclass(frozen=True, slots=True)
class LinkTarget:
    """The thing that a link opens: one of an entry's path, a folder (empty: the whole dataset) and a task."""

    path: str | None = None
    folder: str | None = None
    task_id: TaskId | None = None

    def checked(self) -> LinkTarget:
        """The target with its path in canonical form.

        Raises:
            InvalidInput: it names none or several of the three (`invalid-link-target`).
            InvalidPath: the path is invalid.
        """
        if sum(each is not None for each in (self.path, self.folder, self.task_id)) != 1:
            raise InvalidInput(
                "Name one of 'path', 'folder' and 'taskId'; the folder '' is the whole dataset.",
                code="invalid-link-target",
            )
        if self.path is not None:
            return LinkTarget(path=paths.entry_path(self.path))
        return self if self.folder is None else LinkTarget(folder=paths.folder_path(self.folder))


@dataclass(frozen=True, slots=True)
class NewLink:
    """A new link, whose token is not stored and can't be shown again."""

    id: LinkId
    token: str
    expires_at: datetime
    target: LinkTarget
    """The thing that it opens, with a path in canonical form."""
    entry: EntryRow | None
    """The entry or folder that it opens."""
    result_name: str | None
    """The file name of the result of the task that it opens."""

    def __repr__(self) -> str:
        """Omits the token, which must not get into a log."""
        return f"NewLink({self.id}, …)"


@dataclass(frozen=True, slots=True)
class LinkPage:
    """A page of links, and the number of all."""

    items: list[LinkRow]
    total: int
    take: int


@dataclass(frozen=True, slots=True)
class OpenLink:
    """A link in use, with its maker as a caller that can only read."""

    row: LinkRow
    caller: Caller
    dataset: DatasetRow

    def covers_entry(self, path: str) -> bool:
        """Whether the link is for the entry, or a folder above it.

        Raises:
            InvalidPath: the path is invalid.
        """
        target = paths.folder_path(path)
        return self.row.path is not None and paths.within(target, self.row.path)

    def require_entry(self, path: str, *, to: LinkScope) -> None:
        """Raises unless the link gives that of the entry.

        Raises:
            InvalidPath: the path is invalid.
            NotFound: the link is for something else (`no-such-link`).
            Forbidden: the link only shows, and this downloads (`link-only-shows`).
        """
        if not self.covers_entry(path):
            raise no_such_link()
        self._require_scope(to)

    def require_task(self, task_id: TaskId, *, to: LinkScope) -> None:
        """Raises unless the link gives that of the task: a link to a dataset opens its tasks too.

        Raises:
            NotFound, Forbidden: as for an entry.
        """
        if self.row.task_id != task_id and self.row.path != "":
            raise no_such_link()
        self._require_scope(to)

    def _require_scope(self, needed: LinkScope) -> None:
        if needed is LinkScope.DOWNLOAD and self.row.scope is LinkScope.VIEW:
            raise Forbidden(
                "This link only shows; ask its maker for one to download.", code="link-only-shows"
            )


@dataclass(frozen=True, slots=True)
class LinkService:
    """Management of links, and access by them."""

    db: Database
    access: PermissionService
    wrong_tokens: WrongTokenLimit = field(default_factory=WrongTokenLimit)

    async def create(  # noqa: PLR0913  the dataset, the target and the link's properties
        self,
        caller: Caller,
        org_slug: str,
        slug: str,
        target: LinkTarget,
        *,
        scope: LinkScope,
        ttl_s: int,
        note: str,
    ) -> NewLink:
        """Creates a link that is valid for `ttl_s`; requires Read.

        Raises:
            Unauthenticated: the caller is anonymous.
            InvalidInput: the target is none, several, a folder as `path` or a file as `folder`.
            NotFound: there is no entry at the path, or no such task.
            Conflict: the caller has too many links.
        """
        target = target.checked()
        dataset = (await self.access.dataset(caller, org_slug, slug)).row
        user_id = require_user(caller)
        token, link_id = PREFIX + secrets.token_urlsafe(_RANDOM_BYTES), LinkId(new_id())
        async with self.db.begin() as connection:
            await users.lock(connection, user_id)
            if await links.count_of(connection, user_id) >= MAX_LINKS:
                raise Conflict(
                    f"You have {MAX_LINKS} links; revoke those that you don't need.", code="too-many-links"
                )
            entry = await _entry_of(connection, dataset, target)
            result_name = await _result_name(connection, dataset, target.task_id)
            expires_at = await links.add(
                connection,
                link_id=link_id,
                digest=digest_of(token),
                dataset_id=dataset.id,
                maker=caller,
                task_id=target.task_id,
                entry_id=entry.id if entry else None,
                path=target.path if target.folder is None else target.folder,
                scope=scope,
                note=note,
                ttl_s=ttl_s,
            )
            await audit.record(
                connection,
                caller,
                AuditAction.LINK_CREATED,
                f"/orgs/{org_slug}/ds/{slug}/links/{link_id}",
                path=target.path,
                folder=target.folder,
                taskId=None if target.task_id is None else str(target.task_id),
                scope=scope,
                ttlS=ttl_s,
            )
        return NewLink(link_id, token, expires_at, target, entry, result_name)

    async def list_links(self, caller: Caller, org_slug: str, slug: str, *, skip: int, take: int) -> LinkPage:
        """The caller's links of the dataset, newest first; those of all for administrators of the organization."""
        dataset = await self.access.dataset(caller, org_slug, slug)
        made_by = _whose(caller, dataset)
        take = max(1, min(take, MAX_TAKE))
        async with self.db.read() as connection:
            total = await links.count(connection, dataset.row.id, made_by=made_by)
            items = await links.list_newest(connection, dataset.row.id, made_by=made_by, skip=skip, take=take)
        return LinkPage(items, total, take)

    async def revoke(self, caller: Caller, org_slug: str, slug: str, link_id: UUID) -> None:
        """Removes a link, which opens nothing any more at once; for its maker and administrators of the organization.

        Raises:
            NotFound: there is no such link, or it is another user's.
        """
        dataset = await self.access.dataset(caller, org_slug, slug)
        made_by = _whose(caller, dataset)
        async with self.db.begin() as connection:
            if not await links.remove(connection, dataset.row.id, link_id, made_by=made_by):
                raise NotFound("You have no link of this id in the dataset.", code="no-such-link")
            target = f"/orgs/{org_slug}/ds/{slug}/links/{link_id}"
            await audit.record(connection, caller, AuditAction.LINK_REVOKED, target)

    async def open(self, token: str, *, address: str | None) -> OpenLink:
        """The link of a token, if its maker may still read the dataset.

        Raises:
            NotFound: there is no such link, or it has ended (`no-such-link`).
            LimitReached: the address has tried too many wrong ones.
        """
        try:
            return await self.reopen(token, address=address)
        except NotFound:
            self.wrong_tokens.check(address)
            self.wrong_tokens.record(address, digest_of(token))
            raise

    async def reopen(self, token: str, *, address: str | None) -> OpenLink:
        """As `open`, for a link that was opened before and may have ended since.

        Raises:
            NotFound: it has.
        """
        async with self.db.read() as connection:
            found = await links.find(connection, digest_of(token))
        if found is not None:
            caller = Caller(
                user_id=found.maker.id,
                user_name=found.maker.user_name,
                is_admin=found.maker.is_admin,
                read_only=True,
                address=address,
            )
            if Access.READ in rights_on(caller, found.dataset.standing, found.dataset.visibility):
                return OpenLink(found.row, caller, found.dataset)
        raise no_such_link()


def digest_of(token: str) -> bytes:
    """The stored digest of a link's token: 256 random bits need no slow hash."""
    return hashlib.sha256(token.encode(errors="replace")).digest()


def no_such_link() -> NotFound:
    """The same error for a link that never was, has ended, or is for something else."""
    return NotFound("There is no such link, it has ended, or it is for something else.", code="no-such-link")


async def _entry_of(connection: AsyncConnection, dataset: DatasetRow, target: LinkTarget) -> EntryRow | None:
    """The entry or folder of the target; None for the whole dataset and for tasks."""
    path = target.path or target.folder
    if not path:
        return None
    entry = await entries.find(connection, dataset.id, path)
    if entry is None:
        raise NotFound(f"The dataset has no entry {paths.shown(path)}.", code="no-such-entry")
    if (entry.type == FOLDER) is (target.folder is None):
        is_a, wanted = ("a folder", "folder") if target.folder is None else ("a file", "path")
        raise InvalidInput(
            f"{paths.shown(path)} is {is_a}; name it as '{wanted}'.", code="invalid-link-target"
        )
    return entry


async def _result_name(
    connection: AsyncConnection, dataset: DatasetRow, task_id: TaskId | None
) -> str | None:
    """The file name of the task's result; None without a task, and before it has one."""
    if task_id is None:
        return None
    task = await tasks.find(connection, dataset.id, task_id)
    if task is None:
        raise NotFound(f"The dataset has no task {task_id}.", code="no-such-task")
    return task.artifact.file_name if task.artifact else None


def _whose(caller: Caller, dataset: AccessibleDataset) -> UserId | None:
    """The user whose links the caller manages; None for administrators, who manage those of all."""
    user_id = require_user(caller)
    return None if Access.ADMIN in dataset.rights else user_id
