"""The files and folders of a dataset: put, list, open, remove."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice

from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.blobs.blob_store import Blob, BlobStore, OpenBlob
from aerotask.db.engine import Database
from aerotask.domain import paths
from aerotask.domain.access import Access, Caller
from aerotask.domain.audit import AuditAction
from aerotask.domain.errors import AerotaskError, Conflict, InvalidInput, NotFound, TooLarge
from aerotask.domain.ids import DatasetId
from aerotask.domain.preconditions import UNCONDITIONAL, Condition
from aerotask.domain.settings import StorageQuota
from aerotask.metadata.file_types import shapefile_paths_of, type_by_name
from aerotask.services.accounts.permissions import Grant, PermissionService
from aerotask.services.datasets.storage_quota import UNBOUNDED, UNLIMITED, Headroom, room_for, within_limits
from aerotask.services.datasets.tree_lock import lock_tree
from aerotask.store.accounts import audit
from aerotask.store.datasets import entries, entry_writes, indexing
from aerotask.store.datasets.entries import FOLDER, EntryContent, EntryRow
from aerotask.store.tasks import usage

# Turning a batch into JSON holds the event loop up for about ten milliseconds.
LIST_BATCH = 500
BATCH = 5000
"""How many rows one statement writes: few enough that it ends soon."""


@dataclass(frozen=True, slots=True)
class OpenEntry:
    """An entry and its content, held open."""

    row: EntryRow
    content: OpenBlob


@dataclass(frozen=True, slots=True)
class EntryService:
    """What can be done to the entries of a dataset."""

    db: Database
    blobs: BlobStore
    access: PermissionService
    max_object_bytes: int
    storage: StorageQuota = UNLIMITED

    async def put(
        self,
        permit: Grant,
        path: str,
        content: AsyncIterator[bytes],
        *,
        announced_bytes: int = 0,
        condition: Condition = UNCONDITIONAL,
    ) -> EntryRow:
        """Store a stream as the entry at `path`, replacing a file that is there.

        Raises:
            InvalidPath: the path won't do.
            TooLarge: the content is longer than the limit; nothing changes.
            Conflict: there is a folder at the path, or a file where a folder above it would be.
            LimitReached: the organization or its owner would store too much; nothing changes.
            Unauthenticated, Forbidden, NotFound: the permit doesn't hold any more; nothing changes.
            PreconditionFailed: what is there doesn't fulfil the condition; nothing changes.
        """
        target = paths.entry_path(path)
        if announced_bytes > self.max_object_bytes:
            raise TooLarge(f"The file is larger than the limit of {self.max_object_bytes} bytes.")
        room = await self.refuse_early(
            permit.dataset_id, target, announced_bytes=announced_bytes, condition=condition
        )
        blob = await self.receive(content, room)
        return await self.name(permit, target, blob, condition=condition)

    async def receive(self, content: AsyncIterator[bytes], room: Headroom) -> Blob:
        """Store a stream under no name yet.

        Raises:
            TooLarge: it is longer than the limit.
            LimitReached: it is longer than the room for it.
        """
        return await self.blobs.put(room.bounded(content), limit_bytes=self.max_object_bytes)

    async def name(
        self, permit: Grant, path: str, blob: Blob, *, condition: Condition = UNCONDITIONAL
    ) -> EntryRow:
        """Make a stored blob the content of the entry at `path`; a blob that can't be named is removed."""
        dataset_id = permit.dataset_id
        try:
            target = paths.entry_path(path)
            await permit.recheck()
            content = EntryContent(blob.key, blob.sha256, blob.size_bytes, type_by_name(target))
            async with (
                self.db.begin() as connection,
                within_limits(connection, self.storage, dataset_id),
            ):
                row = await put_content(connection, dataset_id, target, content, condition=condition)
        except AerotaskError:
            await self.blobs.remove(blob.key)
            raise
        return row

    async def make_folder(self, permit: Grant, path: str) -> EntryRow:
        """Make the folder at `path` with all above it; one that exists stays.

        Raises:
            Conflict: there is a file at the path or above it.
        """
        target, dataset_id = paths.entry_path(path), permit.dataset_id
        await permit.recheck()
        async with self.db.begin() as connection:
            await lock_tree(connection, dataset_id)
            await _refuse_files_among(connection, dataset_id, (*paths.parents(target), target))
            await entry_writes.add_folders(connection, dataset_id, (*paths.parents(target), target))
            row = await entries.find(connection, dataset_id, target)
        if row is None:
            raise NotFound("The folder has been removed meanwhile.")
        return row

    async def list_entries(
        self, caller: Caller, org_slug: str, slug: str, *, path: str | None, recursive: bool
    ) -> AsyncIterator[list[EntryRow]]:
        """What is in the folder at `path`, or everything below it, in batches; of a file, the file.

        The first batch has been read when this returns. An entry that is renamed while later ones are read may
        be listed under both of its paths, or neither.

        Raises:
            NotFound: there is nothing at the path.
        """
        folder = paths.folder_path(path)
        dataset = (await self.access.dataset(caller, org_slug, slug)).row
        async with self.db.read() as connection:
            here = await entries.find(connection, dataset.id, folder) if folder else None
        if folder and here is None:
            raise _no_entry(folder)
        if here is not None and here.type != FOLDER:
            return _just([here])
        first = await self._page(dataset.id, folder, recursive=recursive, after="")
        return self._pages(dataset.id, folder, first, recursive=recursive)

    async def _pages(
        self, dataset_id: DatasetId, folder: str, page: list[EntryRow], *, recursive: bool
    ) -> AsyncIterator[list[EntryRow]]:
        yield page
        while len(page) == LIST_BATCH:
            page = await self._page(dataset_id, folder, recursive=recursive, after=page[-1].path)
            yield page

    async def _page(
        self, dataset_id: DatasetId, folder: str, *, recursive: bool, after: str
    ) -> list[EntryRow]:
        async with self.db.read() as connection:
            return await entries.list_page(
                connection, dataset_id, folder, recursive=recursive, after=after, max_count=LIST_BATCH
            )

    async def open_file(self, caller: Caller, org_slug: str, slug: str, path: str) -> OpenEntry:
        """Open a file's content for reading.

        Raises:
            NotFound: there is nothing at the path.
            InvalidInput: it is a folder.
        """
        target = paths.entry_path(path)
        dataset = (await self.access.dataset(caller, org_slug, slug)).row
        for _ in range(3):
            async with self.db.read() as connection:
                row = await entries.find(connection, dataset.id, target)
            if row is None:
                raise _no_entry(target)
            if row.blob_key is None:
                raise InvalidInput(
                    f"{paths.shown(target)} is a folder; name a file, or download the folder as a ZIP.",
                    code="not-a-file",
                )
            # Replaced between the look-up and the opening: look again.
            with contextlib.suppress(FileNotFoundError):
                return OpenEntry(row, await self.blobs.open(row.blob_key))
        raise NotFound(f"The content of {paths.shown(target)} is missing from the storage.")

    async def remove(
        self,
        caller: Caller,
        org_slug: str,
        slug: str,
        path: str,
        *,
        condition: Condition = UNCONDITIONAL,
    ) -> list[str]:
        """Remove the entry at `path` and everything below it; the paths that went.

        Raises:
            NotFound: there is nothing at the path.
            PreconditionFailed: the entry doesn't fulfil the condition; nothing changes.
        """
        target = paths.entry_path(path)
        dataset = (await self.access.dataset(caller, org_slug, slug, to=Access.DELETE)).row
        async with self.db.begin() as connection:
            await lock_tree(connection, dataset.id)
            here = await entries.find(connection, dataset.id, target)
            if here is None:
                raise _no_entry(target)
            condition.check(here.sha256)
            gone = await remove_content(connection, dataset.id, target)
            address = f"/orgs/{org_slug}/ds/{slug}/obj/{target}"
            await audit.record(connection, caller, AuditAction.ENTRY_DELETED, address, entries=len(gone))
        return gone

    async def refuse_early(
        self,
        dataset_id: DatasetId,
        path: str,
        *,
        announced_bytes: int,
        condition: Condition = UNCONDITIONAL,
    ) -> Headroom:
        """Refuse what can't become the entry at `path` as things stand, before its bytes are taken in.

        Returns:
            How many bytes may come, since not everybody announces them.
        """
        async with self.db.read() as connection:
            here = await _refuse_clash(connection, dataset_id, path)
            condition.check(here.sha256 if here else None)
            if self.storage.unlimited:
                return UNBOUNDED
            freed_bytes = here.size_bytes if here else 0
            room = await room_for(connection, self.storage, dataset_id, freed_bytes=freed_bytes)
        room.require(announced_bytes)
        return room

    async def room_anywhere(self, dataset_id: DatasetId) -> Headroom:
        """How many bytes may come for an entry whose path isn't known yet: it may replace the largest."""
        if self.storage.unlimited:
            return UNBOUNDED
        async with self.db.read() as connection:
            freed_bytes = await usage.stored_in(connection, dataset_id)
            return await room_for(connection, self.storage, dataset_id, freed_bytes=freed_bytes)


async def _just(rows: list[EntryRow]) -> AsyncIterator[list[EntryRow]]:
    yield rows


async def put_content(
    connection: AsyncConnection,
    dataset_id: DatasetId,
    path: str,
    content: EntryContent,
    *,
    condition: Condition = UNCONDITIONAL,
) -> EntryRow:
    """Within the caller's transaction, make `content` the entry at `path`, with the folders above it.

    Raises:
        Conflict: there is a folder at the path, or a file where a folder above it would be.
        PreconditionFailed: what is there doesn't fulfil the condition.
    """
    await lock_tree(connection, dataset_id)
    here = await _refuse_clash(connection, dataset_id, path)
    condition.check(here.sha256 if here else None)
    await entry_writes.add_folders(connection, dataset_id, paths.parents(path))
    row = await entry_writes.put_file(connection, dataset_id, path, content)
    if shapefiles := shapefile_paths_of(path):
        await indexing.index_again(connection, dataset_id, shapefiles)
    await indexing.announce(connection)
    return row


async def put_contents(
    connection: AsyncConnection,
    dataset_id: DatasetId,
    contents: Mapping[str, EntryContent],
    *,
    folders: Collection[str] = (),
) -> None:
    """As `put_content`, for many paths at once, and with folders that shall be there too.

    Raises:
        Conflict: there is a folder at one of the paths, or a file at or above one of the folders or paths, be it
            there already or among the contents.
    """
    await lock_tree(connection, dataset_id)
    needed = {*folders, *chain.from_iterable(map(paths.parents, (*contents, *folders)))}
    clashing = next((path for path in contents if path in needed), None)
    if clashing is not None:
        raise _entry_is_file(clashing)
    there = await entries.folders_among(connection, dataset_id, list(contents))
    if there:
        raise Conflict(f"There is a folder at {paths.shown(there[0])}.", code="entry-is-folder")
    await _refuse_files_among(connection, dataset_id, sorted(needed))
    await entry_writes.add_folders(connection, dataset_id, sorted(needed))
    placed = iter(contents.items())
    while batch := dict(islice(placed, BATCH)):
        await entry_writes.put_files(connection, dataset_id, batch)
    if shapefiles := {*chain.from_iterable(map(shapefile_paths_of, contents))} - contents.keys():
        await indexing.index_again(connection, dataset_id, sorted(shapefiles))
    if contents:
        await indexing.announce(connection)


async def remove_content(connection: AsyncConnection, dataset_id: DatasetId, path: str) -> list[str]:
    """Within the caller's transaction, remove the entry at `path` and all below it; the paths that went."""
    await lock_tree(connection, dataset_id)
    return await entry_writes.remove_within(connection, dataset_id, path)


async def _refuse_clash(connection: AsyncConnection, dataset_id: DatasetId, path: str) -> EntryRow | None:
    """The file that is at the path, if any; what stands in its way is refused."""
    here = await entries.find(connection, dataset_id, path)
    if here is not None and here.type == FOLDER:
        raise Conflict(f"There is a folder at {paths.shown(path)}.", code="entry-is-folder")
    await _refuse_files_among(connection, dataset_id, paths.parents(path))
    return here


async def _refuse_files_among(
    connection: AsyncConnection, dataset_id: DatasetId, folders: Sequence[str]
) -> None:
    above = await entries.files_among(connection, dataset_id, folders)
    if above:
        raise _entry_is_file(above[0])


def _entry_is_file(path: str) -> Conflict:
    return Conflict(f"{paths.shown(path)} is a file, so nothing can be below it.", code="entry-is-file")


def _no_entry(path: str) -> NotFound:
    return NotFound(f"The dataset has no entry {paths.shown(path)}.", code="no-such-entry")
