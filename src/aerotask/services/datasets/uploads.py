"""Resumable uploads: announced, appended to over any number of requests, then turned into an entry."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime

from aerotask.blobs.blob_store import BlobStore
from aerotask.blobs.partial_files import PartialFile, PartialFiles
from aerotask.db.engine import Database
from aerotask.domain import paths
from aerotask.domain.access import Access, Caller
from aerotask.domain.errors import AerotaskError, Conflict, LimitReached, NotFound, TooLarge
from aerotask.domain.ids import UploadId, new_id
from aerotask.domain.settings import UploadLimits
from aerotask.failpoints import failpoint
from aerotask.metadata.file_types import type_by_name
from aerotask.services.accounts.permissions import PermissionService, Reauthenticate
from aerotask.services.datasets.contents import put_content
from aerotask.services.datasets.entries import EntryService
from aerotask.services.datasets.storage_quota import within_limits
from aerotask.store.accounts import users
from aerotask.store.datasets import datasets, uploads
from aerotask.store.datasets.entries import EntryContent
from aerotask.store.datasets.uploads import UploadRow

RETRY_AFTER_S = 60


@dataclass(frozen=True, slots=True)
class UploadProgress:
    """An upload and its offset."""

    row: UploadRow
    offset: int

    @property
    def expires_at(self) -> datetime:
        """Expiry of the upload."""
        return self.row.expires_at


@dataclass(frozen=True, slots=True)
class UploadService:
    """Resumable uploads; every request needs write access, and an upload is visible to its creator and administrators only."""

    db: Database
    files: PartialFiles
    blobs: BlobStore
    access: PermissionService
    entries: EntryService
    limits: UploadLimits
    clock_offset_s: int = 0
    extend_every_s: float = 60.0
    """Interval at which the expiry is extended while bytes arrive."""

    async def create(  # noqa: PLR0913  the announced properties
        self,
        caller: Caller,
        org_slug: str,
        slug: str,
        *,
        path: str,
        size_bytes: int,
        client_metadata: str,
    ) -> UploadProgress:
        """Announces an upload, whose bytes count towards the storage quota from now on; an empty one is complete at once.

        Raises:
            InvalidPath: the path is invalid.
            TooLarge: the upload exceeds the limit for one object.
            Conflict: there is a folder at the path, or a file where a folder above it would be.
            LimitReached: the storage quota would be exceeded, or the caller has too many open uploads.
        """
        dataset = (await self.access.dataset(caller, org_slug, slug, to=Access.WRITE)).row
        target = paths.entry_path(path)
        if size_bytes > self.entries.max_object_bytes:
            raise TooLarge(f"The file is larger than the limit of {self.entries.max_object_bytes} bytes.")
        await self.entries.check_early(dataset.id, target, announced_bytes=size_bytes)
        async with (
            self.db.begin() as connection,
            within_limits(connection, self.entries.storage, dataset.id),
        ):
            # Serialises a user's announcements, so that they can be counted.
            if caller.user_id is not None:
                await users.lock(connection, caller.user_id)
            if not await datasets.hold(connection, dataset.id):
                raise NotFound("The dataset has been deleted.")
            row = await uploads.add(
                connection,
                upload_id=UploadId(new_id()),
                dataset_id=dataset.id,
                user_id=caller.user_id,
                path=target,
                size_bytes=size_bytes,
                client_metadata=client_metadata,
                ttl_s=self.limits.ttl_s,
            )
            self._raise_if_too_many(await uploads.count_open(connection, caller.user_id))
        if size_bytes == 0:
            await self._complete(row)
        return UploadProgress(row, 0)

    async def status(self, caller: Caller, org_slug: str, slug: str, upload_id: UploadId) -> UploadProgress:
        """The durable offset of the upload.

        A complete upload that has not become an entry, because the process died in between, becomes one now: a
        client that sees the full offset sends no further request.

        Raises:
            NotFound: the dataset has no such upload of the caller.
        """
        await self._find(caller, org_slug, slug, upload_id)
        # The length first: if the file is missing, the row read afterwards gives the reason.
        offset = await self.files.size_bytes(str(upload_id))
        row = await self._find(caller, org_slug, slug, upload_id)
        if row.finished_at is not None:
            return UploadProgress(row, row.size_bytes)
        if offset == row.size_bytes:
            await self._complete(row)
        return UploadProgress(row, offset)

    async def progress_of(self, row: UploadRow) -> UploadProgress:
        """The durable offset of an upload whose row is known."""
        return UploadProgress(row, await self.files.size_bytes(str(row.id)))

    async def append(  # noqa: PLR0913  an upload and a chunk for it
        self,
        reauthenticate: Reauthenticate,
        org_slug: str,
        slug: str,
        upload_id: UploadId,
        *,
        offset: int,
        content: AsyncIterator[bytes],
        announced_bytes: int,
    ) -> UploadProgress:
        """Appends bytes at `offset`; with the last byte the upload becomes an entry.

        Raises:
            NotFound: as for `status`; also if the caller loses their rights while the bytes arrive.
            Unauthenticated: the caller's credentials are no longer valid.
            Conflict: the offset is not the upload's length, or its path has been taken since.
            Locked: another request is appending to it.
            TooLarge: there are more bytes than announced.
        """
        row = await self._find(await reauthenticate(), org_slug, slug, upload_id)
        if row.finished_at is not None:
            return _already_complete(row, offset, announced_bytes)
        async with self.files.locked(str(row.id)) as file:
            row = await self._extend_expiry(row)
            if row.finished_at is not None:  # by another request, before this one locked the file
                return _already_complete(row, offset, announced_bytes)
            _require_fit(row, offset, file.size_bytes, announced_bytes)
            await file.append(self._keeping_alive(row, content), up_to_bytes=row.size_bytes)
            failpoint("upload-synced")
            # Checked again, since the body may have taken hours.
            row = await self._extend_expiry(
                await self._find(await reauthenticate(), org_slug, slug, upload_id)
            )
            if file.size_bytes == row.size_bytes:
                await self._finish(row, file)
            return UploadProgress(row, file.size_bytes)

    async def terminate(self, caller: Caller, org_slug: str, slug: str, upload_id: UploadId) -> None:
        """Cancels an upload; if it has become an entry, the entry stays.

        Raises:
            NotFound: as for `status`.
        """
        await self.discard(await self._find(caller, org_slug, slug, upload_id))

    async def discard(self, row: UploadRow) -> None:
        """As `terminate`, for an upload whose row is known."""
        async with self.db.begin() as connection:
            await uploads.remove(connection, row.id)
        # A request that is appending continues on the unlinked file, and finds no row at its end.
        await self.files.remove(str(row.id))

    async def _find(self, caller: Caller, org_slug: str, slug: str, upload_id: UploadId) -> UploadRow:
        dataset = await self.access.dataset(caller, org_slug, slug, to=Access.WRITE)
        async with self.db.read() as connection:
            row = await uploads.find(
                connection, dataset.row.id, upload_id, clock_offset_s=self.clock_offset_s
            )
        if row is None or not (row.user_id == caller.user_id or Access.ADMIN in dataset.rights):
            raise _no_upload()
        return row

    async def _extend_expiry(self, row: UploadRow) -> UploadRow:
        async with self.db.begin() as connection:
            extended = await uploads.extend_expiry(connection, row.id, ttl_s=self.limits.ttl_s)
        if extended is None:
            raise _no_upload()
        return extended

    async def _keeping_alive(self, row: UploadRow, content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The same bytes, while the expiry is extended; raises once the upload is cancelled."""
        loop = asyncio.get_running_loop()
        due = loop.time() + self.extend_every_s
        async for chunk in content:
            if loop.time() > due:
                await self._extend_expiry(row)
                due = loop.time() + self.extend_every_s
            yield chunk

    def _raise_if_too_many(self, count: int) -> None:
        if count > self.limits.open_per_user:
            raise LimitReached(
                f"You have {self.limits.open_per_user} open uploads; complete or delete some.",
                limit_name="maxOpenUploadsPerUser",
                limit=self.limits.open_per_user,
                current=count - 1,
                retry_after_s=RETRY_AFTER_S,
            )

    async def _complete(self, row: UploadRow) -> None:
        async with self.files.locked(str(row.id)) as file:
            if (await self._extend_expiry(row)).finished_at is None:
                await self._finish(row, file)

    async def _finish(self, row: UploadRow, file: PartialFile) -> None:
        """Makes the complete file the content of an entry; after a crash at any point it can be repeated."""
        try:
            blob = await self.blobs.ingest_copy(file.path, sha256=await file.sha256())
        except FileNotFoundError as error:
            raise _no_upload() from error
        content = EntryContent(blob.key, blob.sha256, blob.size_bytes, type_by_name(row.path))
        try:
            async with self.db.begin() as connection:
                await put_content(connection, row.dataset_id, row.path, content)
                if not await uploads.finish(connection, row.id):
                    raise _no_upload()
        except AerotaskError:
            await self.blobs.remove(blob.key)
            raise
        await self.files.remove(str(row.id))


def _already_complete(row: UploadRow, offset: int, announced_bytes: int) -> UploadProgress:
    """The response to a repeated last request, whose first response was lost."""
    _require_fit(row, offset, row.size_bytes, announced_bytes)
    return UploadProgress(row, row.size_bytes)


def _require_fit(row: UploadRow, offset: int, size_bytes: int, announced_bytes: int) -> None:
    if offset != size_bytes:
        raise Conflict(
            f"The upload has {size_bytes} bytes; continue from there.", code="upload-offset-mismatch"
        )
    if offset + announced_bytes > row.size_bytes:
        raise TooLarge(f"The content exceeds the announced {row.size_bytes} bytes.")


def _no_upload() -> NotFound:
    return NotFound("The dataset has no such upload of yours.", code="no-such-upload")
