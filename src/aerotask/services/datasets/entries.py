"""Entries of a dataset, files and folders: put, list, open, remove."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from aerotask.blobs.blob_store import Blob, BlobStore, OpenBlob
from aerotask.blobs.missing import content_missing
from aerotask.db.engine import Database
from aerotask.domain import paths
from aerotask.domain.access import Access, Caller
from aerotask.domain.audit import AuditAction
from aerotask.domain.errors import AerotaskError, InvalidInput, NotFound, TooLarge
from aerotask.domain.ids import DatasetId
from aerotask.domain.preconditions import UNCONDITIONAL, Condition
from aerotask.domain.settings import StorageQuota
from aerotask.metadata.file_types import type_by_name
from aerotask.services.accounts.permissions import Grant, PermissionService
from aerotask.services.datasets.contents import (
    existing_file,
    put_content,
    raise_if_file_among,
    remove_content,
)
from aerotask.services.datasets.storage_quota import (
    UNBOUNDED,
    UNLIMITED,
    Headroom,
    headroom_for,
    within_limits,
)
from aerotask.services.datasets.tree_lock import lock_tree
from aerotask.store.accounts import audit
from aerotask.store.datasets import entries, entry_writes
from aerotask.store.datasets.entries import FOLDER, EntryContent, EntryRow
from aerotask.store.tasks import usage

# Serialising a batch to JSON blocks the event loop for about ten milliseconds.
LIST_BATCH = 500


@dataclass(frozen=True, slots=True)
class OpenEntry:
    """An entry with its open content."""

    row: EntryRow
    content: OpenBlob


@dataclass(frozen=True, slots=True)
class EntryService:
    """Operations on the entries of a dataset."""

    db: Database
    blobs: BlobStore
    access: PermissionService
    max_object_bytes: int
    storage: StorageQuota = UNLIMITED

    async def put(
        self,
        grant: Grant,
        path: str,
        content: AsyncIterator[bytes],
        *,
        announced_bytes: int = 0,
        condition: Condition = UNCONDITIONAL,
    ) -> EntryRow:
        """Stores a stream as the entry at `path`, replacing an existing file.

        Raises:
            InvalidPath: the path is invalid.
            TooLarge: the content exceeds the limit; nothing changes.
            Conflict: there is a folder at the path, or a file where a folder above it would be.
            LimitReached: the storage quota of the organization or its owner would be exceeded; nothing changes.
            Unauthenticated, Forbidden, NotFound: the grant is no longer valid; nothing changes.
            PreconditionFailed: the existing entry doesn't meet the condition; nothing changes.
        """
        target = paths.entry_path(path)
        if announced_bytes > self.max_object_bytes:
            raise TooLarge(f"The file is larger than the limit of {self.max_object_bytes} bytes.")
        headroom = await self.check_early(
            grant.dataset_id, target, announced_bytes=announced_bytes, condition=condition
        )
        blob = await self.receive(content, headroom)
        return await self.link(grant, target, blob, condition=condition)

    async def receive(self, content: AsyncIterator[bytes], headroom: Headroom) -> Blob:
        """Stores a stream as a blob that no entry refers to yet.

        Raises:
            TooLarge: the stream exceeds the limit.
            LimitReached: the stream exceeds the headroom.
        """
        return await self.blobs.put(headroom.bounded(content), limit_bytes=self.max_object_bytes)

    async def link(
        self, grant: Grant, path: str, blob: Blob, *, condition: Condition = UNCONDITIONAL
    ) -> EntryRow:
        """Makes a stored blob the content of the entry at `path`; on failure the blob is removed."""
        dataset_id = grant.dataset_id
        try:
            target = paths.entry_path(path)
            await grant.recheck()
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

    async def make_folder(self, grant: Grant, path: str) -> EntryRow:
        """Creates the folder at `path` and its parents; existing folders stay.

        Raises:
            Conflict: there is a file at the path or above it.
        """
        target, dataset_id = paths.entry_path(path), grant.dataset_id
        await grant.recheck()
        async with self.db.begin() as connection:
            await lock_tree(connection, dataset_id)
            await raise_if_file_among(connection, dataset_id, (*paths.parents(target), target))
            await entry_writes.add_folders(connection, dataset_id, (*paths.parents(target), target))
            row = await entries.find(connection, dataset_id, target)
        if row is None:
            raise NotFound("The folder was removed by another request.")
        return row

    async def list_entries(
        self, caller: Caller, org_slug: str, slug: str, *, path: str | None, recursive: bool
    ) -> AsyncIterator[list[EntryRow]]:
        """The entries in the folder at `path`, or all below it, in batches; for a file, the file itself.

        The first batch is read before this returns. An entry that is renamed during the listing may be listed
        under both of its paths, or neither.

        Raises:
            NotFound: there is no entry at the path.
        """
        folder = paths.folder_path(path)
        dataset = (await self.access.dataset(caller, org_slug, slug)).row
        async with self.db.read() as connection:
            existing = await entries.find(connection, dataset.id, folder) if folder else None
        if folder and existing is None:
            raise _no_entry(folder)
        if existing is not None and existing.type != FOLDER:
            return _single_batch([existing])
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
        """Opens a file's content for reading.

        Raises:
            NotFound: there is no entry at the path.
            InvalidInput: the entry is a folder.
            ContentDamaged: the stored file isn't as long as its row says.
            Unavailable: its content is missing from the storage.
        """
        target = paths.entry_path(path)
        dataset = (await self.access.dataset(caller, org_slug, slug)).row
        blob_key = ""
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
            # Replaced between the query and the opening: query again.
            blob_key = row.blob_key
            with contextlib.suppress(FileNotFoundError):
                return OpenEntry(row, await self.blobs.open(blob_key, size_bytes=row.size_bytes))
        raise content_missing(blob_key)

    async def remove(
        self,
        caller: Caller,
        org_slug: str,
        slug: str,
        path: str,
        *,
        condition: Condition = UNCONDITIONAL,
    ) -> list[str]:
        """Removes the entry at `path` and everything below it; returns the removed paths.

        Raises:
            NotFound: there is no entry at the path.
            PreconditionFailed: the entry doesn't meet the condition; nothing changes.
        """
        target = paths.entry_path(path)
        dataset = (await self.access.dataset(caller, org_slug, slug, to=Access.DELETE)).row
        async with self.db.begin() as connection:
            await lock_tree(connection, dataset.id)
            existing = await entries.find(connection, dataset.id, target)
            if existing is None:
                raise _no_entry(target)
            condition.check(existing.sha256)
            removed = await remove_content(connection, dataset.id, target)
            address = f"/orgs/{org_slug}/ds/{slug}/obj/{target}"
            await audit.record(connection, caller, AuditAction.ENTRY_DELETED, address, entries=len(removed))
        return removed

    async def check_early(
        self,
        dataset_id: DatasetId,
        path: str,
        *,
        announced_bytes: int,
        condition: Condition = UNCONDITIONAL,
    ) -> Headroom:
        """Raises if content can't become the entry at `path`, before its bytes are received.

        Returns:
            The headroom for the bytes, since clients need not announce their number.

        Raises:
            OSError: the disk has no room for them (`ENOSPC`).
        """
        async with self.db.read() as connection:
            existing = await existing_file(connection, dataset_id, path)
            condition.check(existing.sha256 if existing else None)
            headroom = UNBOUNDED
            if not self.storage.unlimited:
                freed_bytes = existing.size_bytes if existing else 0
                headroom = await headroom_for(connection, self.storage, dataset_id, freed_bytes=freed_bytes)
        headroom.check(announced_bytes)
        await asyncio.to_thread(self.blobs.require_space, announced_bytes)
        return headroom

    async def headroom_anywhere(self, dataset_id: DatasetId) -> Headroom:
        """Headroom for an entry whose path isn't known yet: it may replace any existing bytes."""
        if self.storage.unlimited:
            return UNBOUNDED
        async with self.db.read() as connection:
            freed_bytes = await usage.stored_in(connection, dataset_id)
            return await headroom_for(connection, self.storage, dataset_id, freed_bytes=freed_bytes)


async def _single_batch(rows: list[EntryRow]) -> AsyncIterator[list[EntryRow]]:
    yield rows


def _no_entry(path: str) -> NotFound:
    return NotFound(f"The dataset has no entry {paths.shown(path)}.", code="no-such-entry")
