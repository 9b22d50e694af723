"""Resumable uploads: announced, grown over as many requests as it takes, and then an entry like any other."""

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
from aerotask.services.datasets.entries import EntryService, put_content
from aerotask.services.datasets.storage_quota import within_limits
from aerotask.store.accounts import users
from aerotask.store.datasets import datasets, uploads
from aerotask.store.datasets.entries import EntryContent
from aerotask.store.datasets.uploads import UploadRow

RETRY_AFTER_S = 60


@dataclass(frozen=True, slots=True)
class UploadProgress:
    """An upload, and how much of it has come."""

    row: UploadRow
    offset: int

    @property
    def expires_at(self) -> datetime:
        """When it is given up."""
        return self.row.expires_at


@dataclass(frozen=True, slots=True)
class UploadService:
    """Takes resumable uploads. Every request needs Write; an upload is its creator's and administrators' alone."""

    db: Database
    files: PartialFiles
    blobs: BlobStore
    access: PermissionService
    entries: EntryService
    limits: UploadLimits
    clock_offset_s: int = 0
    prolong_every_s: float = 60.0
    """Interval at which the expiry of an upload is put off while its bytes arrive."""

    async def create(  # noqa: PLR0913  what is announced
        self,
        caller: Caller,
        org_slug: str,
        slug: str,
        *,
        path: str,
        size_bytes: int,
        client_metadata: str,
    ) -> UploadProgress:
        """Announce an upload; its bytes count for the storage limits from now on. An empty one is complete at once.

        Raises:
            InvalidPath: the path won't do.
            TooLarge: it is longer than an object may be.
            Conflict: there is a folder at the path, or a file where a folder above it would be.
            LimitReached: too much would be stored, or too many of the caller's uploads are open.
        """
        dataset = (await self.access.dataset(caller, org_slug, slug, to=Access.WRITE)).row
        target = paths.entry_path(path)
        if size_bytes > self.entries.max_object_bytes:
            raise TooLarge(f"The file is larger than the limit of {self.entries.max_object_bytes} bytes.")
        await self.entries.refuse_early(dataset.id, target, announced_bytes=size_bytes)
        async with (
            self.db.begin() as connection,
            within_limits(connection, self.entries.storage, dataset.id),
        ):
            # One announcement of a user at a time, so that they can be counted.
            if caller.user_id is not None:
                await users.lock(connection, caller.user_id)
            if not await datasets.hold(connection, dataset.id):
                raise NotFound("The dataset has been deleted meanwhile.")
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
            self._refuse_too_many(await uploads.count_open(connection, caller.user_id))
        if size_bytes == 0:
            await self._complete(row)
        return UploadProgress(row, 0)

    async def look(self, caller: Caller, org_slug: str, slug: str, upload_id: UploadId) -> UploadProgress:
        """How much of the upload is safely here.

        One that is complete but has not become an entry, since the process died between the two, does so now:
        whoever hears that everything has come won't come again.

        Raises:
            NotFound: the dataset has no such upload of the caller, or not any more.
        """
        await self._find(caller, org_slug, slug, upload_id)
        # The length first: a file that is gone by then belongs to a row that says why.
        offset = await self.files.size_bytes(str(upload_id))
        row = await self._find(caller, org_slug, slug, upload_id)
        if row.finished_at is not None:
            return UploadProgress(row, row.size_bytes)
        if offset == row.size_bytes:
            await self._complete(row)
        return UploadProgress(row, offset)

    async def reached(self, row: UploadRow) -> UploadProgress:
        """How much of an upload that was found already is safely here."""
        return UploadProgress(row, await self.files.size_bytes(str(row.id)))

    async def append(  # noqa: PLR0913  which upload, and what comes where
        self,
        ask: Reauthenticate,
        org_slug: str,
        slug: str,
        upload_id: UploadId,
        *,
        offset: int,
        content: AsyncIterator[bytes],
        announced_bytes: int,
    ) -> UploadProgress:
        """Add what comes at `offset`; with the last byte the upload becomes an entry.

        Raises:
            NotFound: as for `look`; also when the caller's rights go while the bytes come.
            Unauthenticated: their credentials don't hold any more.
            Conflict: the upload isn't that long, or longer; or its path has been taken meanwhile.
            Locked: another request is adding to it.
            TooLarge: more comes than was announced.
        """
        row = await self._find(await ask(), org_slug, slug, upload_id)
        if row.finished_at is not None:
            return _complete_already(row, offset, announced_bytes)
        async with self.files.locked(str(row.id)) as file:
            row = await self._prolonged(row)
            if row.finished_at is not None:  # by somebody else, before we had the file
                return _complete_already(row, offset, announced_bytes)
            _require_fit(row, offset, file.size_bytes, announced_bytes)
            await file.append(self._kept(row, content), up_to_bytes=row.size_bytes)
            failpoint("upload-synced")
            # Asked again, who it is and what they may: the body may have taken hours.
            row = await self._prolonged(await self._find(await ask(), org_slug, slug, upload_id))
            if file.size_bytes == row.size_bytes:
                await self._finish(row, file)
            return UploadProgress(row, file.size_bytes)

    async def terminate(self, caller: Caller, org_slug: str, slug: str, upload_id: UploadId) -> None:
        """Give an upload up; an entry that it has become stays.

        Raises:
            NotFound: as for `look`.
        """
        await self.discard(await self._find(caller, org_slug, slug, upload_id))

    async def discard(self, row: UploadRow) -> None:
        """As `terminate`, of an upload that was found already."""
        async with self.db.begin() as connection:
            await uploads.remove(connection, row.id)
        # A request that is adding to it goes on writing to a file without a name, and finds no row at its end.
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

    async def _prolonged(self, row: UploadRow) -> UploadRow:
        async with self.db.begin() as connection:
            kept = await uploads.prolong(connection, row.id, ttl_s=self.limits.ttl_s)
        if kept is None:
            raise _no_upload()
        return kept

    async def _kept(self, row: UploadRow, content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The same bytes; as long as they come the upload doesn't expire, and once it is given up they end."""
        loop = asyncio.get_running_loop()
        due = loop.time() + self.prolong_every_s
        async for piece in content:
            if loop.time() > due:
                await self._prolonged(row)
                due = loop.time() + self.prolong_every_s
            yield piece

    def _refuse_too_many(self, count: int) -> None:
        if count > self.limits.open_per_user:
            raise LimitReached(
                f"{self.limits.open_per_user} of your uploads are open; complete or delete some.",
                limit_name="maxOpenUploadsPerUser",
                limit=self.limits.open_per_user,
                current=count - 1,
                retry_after_s=RETRY_AFTER_S,
            )

    async def _complete(self, row: UploadRow) -> None:
        async with self.files.locked(str(row.id)) as file:
            if (await self._prolonged(row)).finished_at is None:
                await self._finish(row, file)

    async def _finish(self, row: UploadRow, file: PartialFile) -> None:
        """Make the complete file the content of an entry. A crash anywhere in it leaves it to be done again."""
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


def _complete_already(row: UploadRow, offset: int, announced_bytes: int) -> UploadProgress:
    """The answer to who sends the end once more, since the first answer got lost."""
    _require_fit(row, offset, row.size_bytes, announced_bytes)
    return UploadProgress(row, row.size_bytes)


def _require_fit(row: UploadRow, offset: int, size_bytes: int, announced_bytes: int) -> None:
    if offset != size_bytes:
        raise Conflict(
            f"The upload is {size_bytes} bytes long; go on from there.", code="upload-offset-mismatch"
        )
    if offset + announced_bytes > row.size_bytes:
        raise TooLarge(f"More comes than the {row.size_bytes} bytes that were announced.")


def _no_upload() -> NotFound:
    return NotFound("The dataset has no such upload of yours, or not any more.", code="no-such-upload")
