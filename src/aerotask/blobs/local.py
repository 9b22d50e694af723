"""Local blob store: files in a folder, written under a temporary name, synced, then renamed."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import hashlib
import os
import shutil
import stat
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from uuid import UUID

from aerotask.aio import finish_in_thread
from aerotask.blobs.blob_check import Readable, find_damage, store_checked, wrong_length
from aerotask.blobs.blob_store import Blob
from aerotask.blobs.disk_space import DiskSpace
from aerotask.blobs.file_ages import changed_before, horizon_of, is_locked
from aerotask.blobs.ingest import ingest_all, make_read_only, sync_folder
from aerotask.blobs.open_file import OpenFile, open_file
from aerotask.blobs.storage_root import StorageRoot
from aerotask.domain.errors import ContentDamaged, TooLarge
from aerotask.domain.ids import new_id
from aerotask.failpoints import failpoint

WRITE_BYTES = 1024 * 1024
BATCH = 500


class LocalBlobs:
    """A `BlobStore` over one folder of a local or shared file system; `create` makes the folder."""

    def __init__(self, root: Path, *, min_free_bytes: int | None = None) -> None:
        self._root = StorageRoot(root, min_free_bytes)
        self._blobs = self._root.blobs
        self._partial = self._root.partial
        self.work_root = self._root.work
        self.cache_folder = self._root.cache

    async def put(self, content: AsyncIterator[bytes], *, limit_bytes: int) -> Blob:
        """Store a stream; a chunk is written and hashed while the next is received."""
        await asyncio.to_thread(self.require)
        incoming = _IncomingFile(self._root)
        try:
            async for chunk in _rechunked(content, WRITE_BYTES):
                await incoming.settle()
                if incoming.size_bytes + len(chunk) > limit_bytes:
                    raise TooLarge(f"The file is larger than the limit of {limit_bytes} bytes.")
                incoming.write(chunk)
            await incoming.settle()
            await asyncio.to_thread(incoming.seal)
            return await asyncio.to_thread(self._publish, incoming.path, incoming.sha256, incoming.size_bytes)
        finally:
            await incoming.discard()

    async def ingest(self, path: Path, *, sha256: str | None = None) -> Blob:
        """Move a finished regular file into the store; symbolic links are rejected."""
        return await asyncio.to_thread(self._ingest, path, sha256)

    async def ingest_all(self, files: Sequence[Path]) -> list[Blob]:
        """Move finished regular files into the store; symbolic links are rejected."""
        if not files:
            return []
        await asyncio.to_thread(self.require)
        return await asyncio.to_thread(ingest_all, files, path_of=self._path, copies=self._partial)

    async def ingest_copy(self, path: Path, *, sha256: str) -> Blob:
        """Hard-link a finished file with a known hash into the store."""
        return await asyncio.to_thread(self._ingest_copy, path, sha256)

    async def open(self, key: str, *, size_bytes: int) -> OpenFile:
        """Open a blob's file."""
        try:
            file = await open_file(self._path(key))
        except FileNotFoundError:
            await asyncio.to_thread(self.require)
            raise
        if file.size_bytes != size_bytes:
            await file.close()
            raise wrong_length(key, file.size_bytes, size_bytes)
        return file

    async def find_damage(
        self, key: str, *, size_bytes: int | None, sha256: str | None
    ) -> ContentDamaged | None:
        """The difference of a blob's file from its length and hash."""
        await asyncio.to_thread(self.require)
        return await asyncio.to_thread(
            find_damage, key, self._path(key), size_bytes=size_bytes, sha256=sha256
        )

    async def repair(self, key: str, storage: Path, *, sha256: str) -> bool:
        """Replace a blob's file by the one in another storage folder, or in a copy of its folder `blobs`."""
        copies = (folder / key[-2:] / key for folder in (storage / "blobs", storage))
        return await asyncio.to_thread(lambda: any(self._replace(key, copy, sha256) for copy in copies))

    async def link_to(self, key: str, target: Path) -> None:
        """Hard-link the blob to `target`, so that the content outlives the blob."""
        await asyncio.to_thread(self._link, key, target)

    async def link_all_to(self, links: Sequence[tuple[str, Path]]) -> None:
        """Hard-link each blob to its target."""
        if links:
            await finish_in_thread(lambda: self._link_all(links))

    async def remove(self, key: str) -> bool:
        """Unlink the blob's file; open files stay readable."""
        try:
            await asyncio.to_thread(os.unlink, self._path(key))
        except FileNotFoundError:
            return False
        return True

    def adopt(self, key: str, content: Readable, *, sha256: str) -> bool:
        """Store a blob under the key that it had in another store; False if its content doesn't have that hash."""
        return store_checked(content, self._path(key), sha256=sha256, partial=self._partial / str(new_id()))

    def require(self) -> UUID:
        """Check that the root has its marker file."""
        return self._root.require()

    def space(self) -> DiskSpace:
        """The space of the disk."""
        self.require()
        return self._root.space()

    def require_space(self, more_bytes: int) -> None:
        """Check that the disk has room for so many more bytes."""
        self._root.require_space(more_bytes)

    def probe(self) -> None:
        """Check by a small write that more can be stored."""
        self._root.probe()

    async def make_work_folder(self, name: str) -> bool:
        """Create a folder within `work_root`."""
        await asyncio.to_thread(self.require)
        try:
            await asyncio.to_thread((self.work_root / name).mkdir, mode=0o700)
        except FileExistsError:
            return False
        return True

    def all_keys(self) -> Iterator[list[str]]:
        """Keys of all files."""
        batch: list[str] = []
        for shard in sorted(self._blobs.iterdir()):
            batch += [file.name for file in shard.iterdir()]
            if len(batch) >= BATCH:
                yield batch
                batch = []
        if batch:
            yield batch

    def work_older_than(self, age: timedelta) -> list[str]:
        """The names of the work folders last changed longer ago than `age`."""
        horizon = horizon_of(age, self._partial)
        return [folder.name for folder in self.work_root.iterdir() if changed_before(folder, horizon)]

    def remove_partial(self, age: timedelta) -> None:
        """Unlink unfinished files without a writer that were last written to longer ago than `age`."""
        horizon = horizon_of(age, self._partial)
        for leftover in self._partial.iterdir():
            if changed_before(leftover, horizon) and not is_locked(leftover):
                leftover.unlink(missing_ok=True)

    def installation_id(self) -> UUID | None:
        """The id in the marker file."""
        return self._root.installation_id()

    def is_empty(self) -> bool:
        """True if no blob is stored."""
        return self._root.is_empty()

    def create(self, installation_id: UUID) -> None:
        """Create the folders and the marker file."""
        self._root.create(installation_id)

    def _path(self, key: str) -> Path:
        # The end of a version 7 id is random, so files are spread evenly over the shards.
        return self._blobs / key[-2:] / key

    def _make_folders(self, folder: Path) -> None:
        """Create a folder in a work folder, with its parents, but not the work root, which may have vanished."""
        for parent in reversed([folder, *folder.parents]):
            if self.work_root in parent.parents:
                # Of the group that a child may have: the work folder itself is closed to others.
                parent.mkdir(mode=0o750, exist_ok=True)

    def _replace(self, key: str, copy: Path, sha256: str) -> bool:
        try:
            with copy.open("rb") as content:
                return self.adopt(key, content, sha256=sha256)
        except FileNotFoundError:
            return False

    def _link_all(self, links: Sequence[tuple[str, Path]]) -> None:
        self.require()
        for folder in {target.parent for _, target in links}:
            self._make_folders(folder)
        for key, target in links:
            self._link(key, target)

    def _link(self, key: str, target: Path) -> None:
        try:
            os.link(self._path(key), target)
        except FileNotFoundError:
            self.require()
            raise

    def _ingest(self, path: Path, known_sha256: str | None = None) -> Blob:
        self.require()
        if not stat.S_ISREG(os.lstat(path).st_mode):
            raise OSError(errno.EINVAL, "only regular files can be stored")
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as content:
            status = os.fstat(descriptor)
            sha256 = known_sha256 or hashlib.file_digest(content, "sha256").hexdigest()
            make_read_only(descriptor)
            os.fsync(descriptor)
        if status.st_nlink > 1:
            # Another hard link exists (an input published unchanged): sharing the file would couple two blobs.
            copied = self._partial / str(new_id())
            shutil.copyfile(path, copied)
            return self._ingest(copied, known_sha256)
        failpoint("blob-synced")
        return self._publish(path, sha256, status.st_size)

    def _ingest_copy(self, path: Path, sha256: str) -> Blob:
        self.require()
        linked = self._partial / str(new_id())
        linked.hardlink_to(path)
        descriptor = os.open(linked, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            make_read_only(descriptor)
            os.fsync(descriptor)
            size_bytes = os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)
        failpoint("blob-synced")
        return self._publish(linked, sha256, size_bytes)

    def _publish(self, finished: Path, sha256: str, size_bytes: int) -> Blob:
        key = str(new_id())
        target = self._path(key)
        target.parent.mkdir(mode=0o700, exist_ok=True)
        # The blob's age starts now: with the time of writing, maintenance could remove it as an old orphan.
        os.utime(finished)
        finished.rename(target)
        sync_folder(target.parent)
        failpoint("blob-renamed")
        return Blob(key, sha256, size_bytes)


class _IncomingFile:
    """File that is being received; one write at a time runs in a thread."""

    def __init__(self, root: StorageRoot) -> None:
        self.path = root.partial / str(new_id())
        self.size_bytes = 0
        self._root = root
        self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        # Maintenance removes old partial files, but none that is locked.
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        self._hash = hashlib.sha256()
        self._writing: asyncio.Task[None] | None = None

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def write(self, chunk: bytes) -> None:
        self.size_bytes += len(chunk)
        self._writing = asyncio.create_task(asyncio.to_thread(self._write, chunk))

    async def settle(self) -> None:
        if self._writing is not None:
            # Shielded: the thread can't be cancelled and goes on writing; `discard` waits for it.
            await asyncio.shield(self._writing)
            self._writing = None

    def seal(self) -> None:
        os.fchmod(self._descriptor, 0o444)
        os.fsync(self._descriptor)
        failpoint("blob-synced")

    async def discard(self) -> None:
        if self._writing is not None:
            await asyncio.wait({self._writing})
        os.close(self._descriptor)
        self.path.unlink(missing_ok=True)

    def _write(self, chunk: bytes) -> None:
        self._root.require_space(len(chunk))
        self._hash.update(chunk)
        view = memoryview(chunk)
        while view:
            view = view[os.write(self._descriptor, view) :]


async def _rechunked(content: AsyncIterator[bytes], size: int) -> AsyncIterator[bytes]:
    """The same bytes in chunks of at least `size`, except for the last."""
    buffer = bytearray()
    async for chunk in content:
        buffer += chunk
        if len(buffer) >= size:
            yield bytes(buffer)
            buffer.clear()
    if buffer:
        yield bytes(buffer)
