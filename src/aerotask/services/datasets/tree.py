"""Tree operations on entries: rename, copy and search, each change in one transaction."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, replace

from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.db import locks
from aerotask.db.engine import Database
from aerotask.db.locks import LockSpace
from aerotask.domain import paths
from aerotask.domain.access import Access, Caller
from aerotask.domain.errors import Conflict, InvalidInput, InvalidPath, NotFound
from aerotask.domain.globs import glob, is_glob
from aerotask.domain.ids import DatasetId
from aerotask.domain.settings import StorageQuota
from aerotask.metadata.file_types import owner_paths_of, side_file_paths_of, suffix_of, type_by_name
from aerotask.services.accounts.permissions import PermissionService
from aerotask.services.datasets.storage_quota import within_limits
from aerotask.services.datasets.tree_lock import lock_tree
from aerotask.store.datasets import entries, entry_writes, index_queue, indexing, search, tree
from aerotask.store.datasets.entries import FOLDER, EntryRow
from aerotask.store.datasets.search import EntryFilter

MAX_TAKE = 1000


@dataclass(frozen=True, slots=True)
class SearchResult:
    """A page of matching entries; `more` if there are further ones."""

    rows: list[EntryRow]
    skip: int
    take: int
    more: bool


@dataclass(frozen=True, slots=True)
class TreeService:
    """Operations on paths. Contents are immutable, so tasks that read an entry are not affected."""

    db: Database
    access: PermissionService
    storage: StorageQuota

    async def rename(self, caller: Caller, org_slug: str, slug: str, *, source: str, dest: str) -> EntryRow:
        """Moves the entry at `source`, with everything below it, to `dest`. Needs write access.

        Raises:
            InvalidPath: a path is invalid, or one below `dest` would become too long.
            NotFound: there is no entry at `source`.
            Conflict: there is an entry at `dest`, or a file where a parent folder would be.
            InvalidInput: `dest` is within `source`.
            LimitReached: an open upload would no longer replace the entry, and exceed the storage quota.
        """
        dataset = (await self.access.dataset(caller, org_slug, slug, to=Access.WRITE)).row
        source, dest = paths.entry_path(source), paths.entry_path(dest)
        async with (
            self.db.begin() as connection,
            within_limits(connection, self.storage, dataset.id),
        ):
            new_type = await _prepare_dest(connection, dataset.id, source, dest)
            await tree.move(connection, dataset.id, source, dest, new_type=new_type)
            return await _finish(connection, dataset.id, source, dest, new_type)

    async def copy(self, caller: Caller, org_slug: str, slug: str, *, source: str, dest: str) -> EntryRow:
        """Copies the entry at `source`, with everything below it, to `dest`; contents are shared. Needs write access.

        Raises:
            InvalidPath, NotFound, Conflict, InvalidInput: as for a rename.
            LimitReached: the storage quota of the organization or its owner would be exceeded.
        """
        dataset = (await self.access.dataset(caller, org_slug, slug, to=Access.WRITE)).row
        source, dest = paths.entry_path(source), paths.entry_path(dest)
        async with (
            self.db.begin() as connection,
            within_limits(connection, self.storage, dataset.id),
        ):
            new_type = await _prepare_dest(connection, dataset.id, source, dest)
            # The tree lock keeps the old references; this lock excludes a concurrent search for orphan blobs.
            await locks.take_shared(connection, LockSpace.BLOBS)
            await tree.copy(connection, dataset.id, source, dest, new_type=new_type)
            return await _finish(connection, dataset.id, source, dest, new_type)

    async def search(  # noqa: PLR0913  a dataset, a filter and a page
        self,
        caller: Caller,
        org_slug: str,
        slug: str,
        entry_filter: EntryFilter,
        *,
        skip: int,
        take: int,
    ) -> SearchResult:
        """The entries that match the filter, by path; a text with `*` or `?` is a glob pattern.

        Raises:
            InvalidInput: the pattern can't be matched in bounded time.
        """
        dataset = (await self.access.dataset(caller, org_slug, slug)).row
        if entry_filter.text is not None:
            text = unicodedata.normalize("NFC", entry_filter.text)  # as paths are
            entry_filter = (
                replace(entry_filter, text=None, glob=glob(text))
                if is_glob(text)
                else replace(entry_filter, text=text)
            )
        take = max(1, min(take, MAX_TAKE))
        async with self.db.read() as connection:
            rows = await search.find_matching(connection, dataset.id, entry_filter, skip=skip, take=take + 1)
        return SearchResult(rows[:take], skip, take, more=len(rows) > take)


async def _prepare_dest(
    connection: AsyncConnection, dataset_id: DatasetId, source: str, dest: str
) -> str | None:
    """Locks the tree, checks that `source` can be moved to `dest`, and creates the parent folders.

    Returns:
        The file's type by its new suffix; None if the suffix stays the same.
    """
    await locks.disable_transaction_timeout(connection)  # there may be many entries below
    await lock_tree(connection, dataset_id)
    entry = await entries.find(connection, dataset_id, source)
    if entry is None:
        raise _no_entry(source)
    if await entries.find(connection, dataset_id, dest) is not None:
        raise Conflict(
            f"There is already an entry at {paths.shown(dest)}; remove it or choose another path.",
            code="entry-exists",
        )
    if paths.within(dest, source):
        raise InvalidInput(f"{paths.shown(dest)} is within {paths.shown(source)}.", code="path-within-itself")
    files = await entries.files_among(connection, dataset_id, paths.parents(dest))
    if files:
        raise Conflict(
            f"{paths.shown(files[0])} is a file, so it can't contain entries.", code="entry-is-file"
        )
    longest = await tree.longest_below(connection, dataset_id, source)
    if longest - len(source.encode()) + len(dest.encode()) > paths.MAX_PATH_BYTES:
        raise InvalidPath(f"A path below it would be longer than {paths.MAX_PATH_BYTES} bytes.")
    await entry_writes.add_folders(connection, dataset_id, paths.parents(dest))
    if entry.type == FOLDER or suffix_of(source) == suffix_of(dest):
        return None
    return type_by_name(dest)


async def _finish(
    connection: AsyncConnection, dataset_id: DatasetId, source: str, dest: str, new_type: str | None
) -> EntryRow:
    """Index again what was read with files that are elsewhere now, or whose side files are."""
    row = await entries.find(connection, dataset_id, dest)
    if row is None:
        raise _no_entry(dest)
    stale = {*owner_paths_of(source), *owner_paths_of(dest)}
    sides = side_file_paths_of(dest)
    had_sides = row.properties.get("georeferencedBy") == "side-files"
    if sides and (had_sides or await indexing.contents_at(connection, dataset_id, sides)):
        stale.add(dest)
    if stale:
        await indexing.index_again(connection, dataset_id, sorted(stale))
    if new_type is not None or stale:
        await index_queue.notify_indexers(connection)
    return await entries.find(connection, dataset_id, dest) or row


def _no_entry(path: str) -> NotFound:
    return NotFound(f"The dataset has no entry {paths.shown(path)}.", code="no-such-entry")
