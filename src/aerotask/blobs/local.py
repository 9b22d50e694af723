"""Blobs as files of a folder: a temporary name, fsync, rename; then a row may name them."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import shutil
import stat
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import timedelta
from pathlib import Path

from aerotask.blobs.blob_store import Blob
from aerotask.blobs.ingest import adopt_all, sync_folder
from aerotask.blobs.open_file import OpenFile, open_file
from aerotask.domain.errors import TooLarge
from aerotask.domain.ids import new_id
from aerotask.failpoints import failpoint

WRITE_BYTES = 1024 * 1024
BATCH = 500


class LocalBlobs:
    """A `BlobStore` over one folder of a local or shared file system."""

    def __init__(self, root: Path) -> None:
        self._blobs = root / "blobs"
        self._partial = root / "partial"
        self.work_root = root / "work"
        for folder in (self._blobs, self._partial, self.work_root):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    async def put(self, content: AsyncIterator[bytes], *, limit_bytes: int) -> Blob:
        """Store a stream; writing and hashing one piece overlaps with receiving the next."""
        incoming = _Incoming(self._partial / str(new_id()))
        try:
            async for piece in _pieces_of(content, WRITE_BYTES):
                await incoming.settle()
                if incoming.size_bytes + len(piece) > limit_bytes:
                    raise TooLarge(f"The file is larger than the limit of {limit_bytes} bytes.")
                incoming.write(piece)
            await incoming.settle()
            await asyncio.to_thread(incoming.seal)
            return await asyncio.to_thread(self._publish, incoming.path, incoming.sha256, incoming.size_bytes)
        finally:
            await incoming.discard()

    async def adopt(self, path: Path, *, sha256: str | None = None) -> Blob:
        """Store a finished regular file; a link is refused."""
        return await asyncio.to_thread(self._adopt, path, sha256)

    async def adopt_all(self, files: Sequence[Path]) -> list[Blob]:
        """Store finished regular files; a link is refused."""
        if not files:
            return []
        return await asyncio.to_thread(adopt_all, files, place=self._path, copies=self._partial)

    async def share(self, path: Path, *, sha256: str) -> Blob:
        """Give a finished file, whose hash is known, a second name in the store."""
        return await asyncio.to_thread(self._share, path, sha256)

    async def open(self, key: str) -> OpenFile:
        """Open a blob's file."""
        return await open_file(self._path(key))

    async def lend(self, key: str, to: Path) -> None:
        """Give the content a second name, so that it stays for as long as that name exists."""
        await asyncio.to_thread(os.link, self._path(key), to)

    async def lend_all(self, lent: Sequence[tuple[str, Path]]) -> None:
        """Give each content a second name."""
        if lent:
            await asyncio.to_thread(self._lend_all, lent)

    async def remove(self, key: str) -> None:
        """Unlink the blob's file; those who have it open read on."""
        with contextlib.suppress(FileNotFoundError):
            await asyncio.to_thread(os.unlink, self._path(key))

    def older_than(self, age: timedelta) -> Iterator[list[str]]:
        """The keys of files whose last change is longer ago than `age`; also clears partial files that old."""
        horizon = time.time() - age.total_seconds()
        for leftover in self._partial.iterdir():
            if _changed_before(leftover, horizon):
                leftover.unlink(missing_ok=True)
        batch: list[str] = []
        for shard in sorted(self._blobs.iterdir()):
            batch += [file.name for file in shard.iterdir() if _changed_before(file, horizon)]
            if len(batch) >= BATCH:
                yield batch
                batch = []
        if batch:
            yield batch

    def _path(self, key: str) -> Path:
        # The end of a version 7 id is random, so it spreads files evenly over the shards.
        return self._blobs / key[-2:] / key

    def _lend_all(self, lent: Sequence[tuple[str, Path]]) -> None:
        for folder in {to.parent for _, to in lent}:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for key, to in lent:
            os.link(self._path(key), to)

    def _adopt(self, path: Path, known: str | None = None) -> Blob:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            raise OSError(errno.EINVAL, "only regular files can be stored")
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as content:
            status = os.fstat(descriptor)
            sha256 = known or hashlib.file_digest(content, "sha256").hexdigest()
            os.fchmod(descriptor, 0o444)
            os.fsync(descriptor)
        if status.st_nlink > 1:
            # Somebody else has a name for it (an input that was published as it is): take a copy.
            copied = self._partial / str(new_id())
            shutil.copyfile(path, copied)
            return self._adopt(copied, known)
        failpoint("blob-synced")
        return self._publish(path, sha256, status.st_size)

    def _share(self, path: Path, sha256: str) -> Blob:
        linked = self._partial / str(new_id())
        linked.hardlink_to(path)
        descriptor = os.open(linked, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.fchmod(descriptor, 0o444)
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
        # The age that the sweep goes by counts from now, not from when the content was written.
        os.utime(finished)
        finished.rename(target)
        sync_folder(target.parent)
        failpoint("blob-renamed")
        return Blob(key, sha256, size_bytes)


class _Incoming:
    """A file that is being received: one write at a time runs in a thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size_bytes = 0
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._hash = hashlib.sha256()
        self._writing: asyncio.Task[None] | None = None

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def write(self, piece: bytes) -> None:
        self.size_bytes += len(piece)
        self._writing = asyncio.create_task(asyncio.to_thread(self._write, piece))

    async def settle(self) -> None:
        if self._writing is not None:
            # Shielded: a cancelled request leaves the thread writing, and `discard` waits for it.
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

    def _write(self, piece: bytes) -> None:
        self._hash.update(piece)
        view = memoryview(piece)
        while view:
            view = view[os.write(self._descriptor, view) :]


async def _pieces_of(content: AsyncIterator[bytes], size: int) -> AsyncIterator[bytes]:
    """The same bytes in pieces of at least `size`, but for the last."""
    gathered = bytearray()
    async for piece in content:
        gathered += piece
        if len(gathered) >= size:
            yield bytes(gathered)
            gathered.clear()
    if gathered:
        yield bytes(gathered)


def _changed_before(file: Path, horizon: float) -> bool:
    try:
        return file.stat().st_mtime < horizon
    except FileNotFoundError:
        return False
