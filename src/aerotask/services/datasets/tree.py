"""Renaming, copying and finding entries: files and whole folders, each change in one transaction."""

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
from aerotask.metadata.file_types import shapefile_paths_of, suffix_of, type_by_name
from aerotask.services.accounts.permissions import PermissionService
from aerotask.services.datasets.storage_quota import within_limits
from aerotask.services.datasets.tree_lock import lock_tree
from aerotask.store.datasets import entries, entry_writes, indexing, search, tree
from aerotask.store.datasets.entries import FOLDER, EntryRow
from aerotask.store.datasets.search import EntryFilter

MAX_TAKE = 1000


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Some of the entries that were searched for; `more` if there are others behind them."""

    rows: list[EntryRow]
    skip: int
    take: int
    more: bool


@dataclass(frozen=True, slots=True)
class TreeService:
    """What is done to paths. Contents are immutable, so tasks that read an entry don't notice."""

    db: Database
    access: PermissionService
    storage: StorageQuota

    async def rename(self, caller: Caller, org_slug: str, slug: str, *, source: str, dest: str) -> EntryRow:
        """Give the entry at `source`, with all below it, the path `dest`. Needs Write.

        Raises:
            InvalidPath: a path won't do, or one below `dest` would become too long.
            NotFound: there is nothing at `source`.
            Conflict: there is something at `dest`, or a file where a folder above it would be.
            InvalidInput: `dest` lies within `source`.
            LimitReached: an open upload would then be beside what it was to replace, and that would be too much.
        """
        dataset = (await self.access.dataset(caller, org_slug, slug, to=Access.WRITE)).row
        source, dest = paths.entry_path(source), paths.entry_path(dest)
        async with (
            self.db.begin() as connection,
            within_limits(connection, self.storage, dataset.id),
        ):
            new_type = await _make_way(connection, dataset.id, source, dest)
            await tree.move(connection, dataset.id, source, dest, new_type=new_type)
            return await _arrived(connection, dataset.id, dest, new_type)

    async def copy(self, caller: Caller, org_slug: str, slug: str, *, source: str, dest: str) -> EntryRow:
        """Put what is at `source`, with all below it, at `dest` as well; contents are shared. Needs Write.

        Raises:
            InvalidPath, NotFound, Conflict, InvalidInput: as for a rename.
            LimitReached: the organization or its owner would store too much.
        """
        dataset = (await self.access.dataset(caller, org_slug, slug, to=Access.WRITE)).row
        source, dest = paths.entry_path(source), paths.entry_path(dest)
        async with (
            self.db.begin() as connection,
            within_limits(connection, self.storage, dataset.id),
        ):
            new_type = await _make_way(connection, dataset.id, source, dest)
            # The tree's lock keeps the old names; with this one no sweep has judged their blobs before.
            await locks.take_shared(connection, LockSpace.BLOBS)
            await tree.copy(connection, dataset.id, source, dest, new_type=new_type)
            return await _arrived(connection, dataset.id, dest, new_type)

    async def search(  # noqa: PLR0913  where, for what, and what part of it
        self,
        caller: Caller,
        org_slug: str,
        slug: str,
        wanted: EntryFilter,
        *,
        skip: int,
        take: int,
    ) -> SearchResult:
        """The entries that have all that is wanted, by path; a text with `*` or `?` is a pattern.

        Raises:
            InvalidInput: the pattern can't be matched in bounded time.
        """
        dataset = (await self.access.dataset(caller, org_slug, slug)).row
        if wanted.text is not None:
            text = unicodedata.normalize("NFC", wanted.text)  # as paths are
            wanted = (
                replace(wanted, text=None, glob=glob(text)) if is_glob(text) else replace(wanted, text=text)
            )
        take = max(1, min(take, MAX_TAKE))
        async with self.db.read() as connection:
            rows = await search.find_matching(connection, dataset.id, wanted, skip=skip, take=take + 1)
        return SearchResult(rows[:take], skip, take, more=len(rows) > take)


async def _make_way(connection: AsyncConnection, dataset_id: DatasetId, source: str, dest: str) -> str | None:
    """Under the tree's lock, see that `source` can be at `dest`, and make the folders above it.

    Returns:
        The type that a file's new name suggests, if the old one suggested something else.
    """
    await locks.disable_idle_timeout(connection)  # there may be a great many entries below
    await lock_tree(connection, dataset_id)
    here = await entries.find(connection, dataset_id, source)
    if here is None:
        raise _no_entry(source)
    if await entries.find(connection, dataset_id, dest) is not None:
        raise Conflict(
            f"There is an entry at {paths.shown(dest)} already; remove it or choose another path.",
            code="entry-exists",
        )
    if paths.within(dest, source):
        raise InvalidInput(
            f"{paths.shown(dest)} lies within {paths.shown(source)}.", code="path-within-itself"
        )
    above = await entries.files_among(connection, dataset_id, paths.parents(dest))
    if above:
        raise Conflict(
            f"{paths.shown(above[0])} is a file, so nothing can be below it.", code="entry-is-file"
        )
    longest = await tree.longest_below(connection, dataset_id, source)
    if longest - len(source.encode()) + len(dest.encode()) > paths.MAX_PATH_BYTES:
        raise InvalidPath(f"A path below it would be longer than {paths.MAX_PATH_BYTES} bytes.")
    await entry_writes.add_folders(connection, dataset_id, paths.parents(dest))
    if here.type == FOLDER or suffix_of(source) == suffix_of(dest):
        return None
    return type_by_name(dest)


async def _arrived(
    connection: AsyncConnection, dataset_id: DatasetId, dest: str, new_type: str | None
) -> EntryRow:
    shapefiles = shapefile_paths_of(dest)
    if shapefiles:
        await indexing.index_again(connection, dataset_id, shapefiles)
    if new_type is not None or shapefiles:
        await indexing.announce(connection)
    row = await entries.find(connection, dataset_id, dest)
    if row is None:
        raise _no_entry(dest)
    return row


def _no_entry(path: str) -> NotFound:
    return NotFound(f"The dataset has no entry {paths.shown(path)}.", code="no-such-entry")
