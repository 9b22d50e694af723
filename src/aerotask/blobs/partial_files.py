"""Partial files of resumable uploads: appended to by one writer at a time, without losing written bytes.

The file's length is the upload's offset, across crashes and restarts: the file is synced before the offset is reported,
and an interrupted write counts as far as it got.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Protocol
from uuid import UUID

from aerotask.blobs.file_ages import horizon_of
from aerotask.blobs.storage_root import StorageRoot
from aerotask.domain.errors import Locked, TooLarge
from aerotask.failpoints import failpoint

WRITE_BYTES = 1024 * 1024
# After this time without data a client's lock is released; otherwise a dead connection would block resuming.
IDLE_TIMEOUT_S = 60.0
# Number of files whose running hashes are cached between requests; others are read again when complete.
MAX_CACHED_DIGESTS = 1000


class Digest(Protocol):
    """Running hash."""

    def update(self, data: bytes | memoryview, /) -> None:
        """Add bytes."""

    def hexdigest(self) -> str:
        """The hash of all bytes so far."""


@dataclass(slots=True)
class PartialFile:
    """Partial file, locked by its only writer."""

    root: StorageRoot
    path: Path
    size_bytes: int
    idle_timeout_s: float
    _descriptor: int
    _digest: Digest | None
    _writing: asyncio.Task[None] | None = None

    async def append(self, content: AsyncIterator[bytes], *, up_to_bytes: int) -> None:
        """Append a stream and sync it; bytes received before the stream broke off are kept.

        Raises:
            TooLarge: the file would become longer than `up_to_bytes`; the chunk that exceeds it is not written.
            TimeoutError: no data arrived for `idle_timeout_s`.
            OSError: the disk is full (`ENOSPC`), for example.
        """
        buffer = bytearray()
        try:
            while (chunk := await self._next(content)) is not None:
                if self.size_bytes + len(buffer) + len(chunk) > up_to_bytes:
                    raise TooLarge(f"The upload is longer than the {up_to_bytes} bytes that it announced.")
                buffer += chunk
                if len(buffer) >= WRITE_BYTES:
                    await self._write(buffer)
                    buffer = bytearray()
        finally:
            if buffer:
                await self._write(buffer)
            await self._settle()
            await asyncio.to_thread(os.fsync, self._descriptor)

    async def sha256(self) -> str:
        """Hash of the whole file; read again unless this process has received all of it."""
        if self._digest is None:
            self._digest = await asyncio.to_thread(_read_digest, self.path)
        return self._digest.hexdigest()

    async def _next(self, content: AsyncIterator[bytes]) -> bytes | None:
        async with asyncio.timeout(self.idle_timeout_s):
            return await anext(content, None)

    async def _write(self, chunk: bytes | bytearray) -> None:
        """Write and hash one chunk in a thread, while the next is received."""
        await self._settle()
        self._writing = asyncio.create_task(asyncio.to_thread(self._write_all, chunk))

    async def _settle(self) -> None:
        if self._writing is not None:
            # Shielded: the thread can't be cancelled and goes on writing; `close` waits for it.
            await asyncio.shield(self._writing)
            self._writing = None

    def _write_all(self, chunk: bytes | bytearray) -> None:
        self.root.require_space(len(chunk))
        view = memoryview(chunk)
        while view:
            written = os.pwrite(self._descriptor, view, self.size_bytes)
            if self._digest is not None:
                self._digest.update(view[:written])
            self.size_bytes += written
            view = view[written:]
        failpoint("upload-written")

    async def close(self) -> Digest | None:
        """Close the file, which releases its lock; returns the running hash."""
        if self._writing is not None:
            await asyncio.wait({self._writing})
        os.close(self._descriptor)
        return self._digest


@dataclass(slots=True)
class PartialFiles:
    """Partial files of a storage, shared by all API processes."""

    root: StorageRoot
    idle_timeout_s: float = IDLE_TIMEOUT_S
    _digests: OrderedDict[str, tuple[int, Digest]] = field(default_factory=OrderedDict)

    @property
    def folder(self) -> Path:
        """Folder of the files."""
        return self.root.uploads

    @asynccontextmanager
    async def locked(self, key: str) -> AsyncIterator[PartialFile]:
        """The file of that key, created if it doesn't exist, locked for this writer.

        Raises:
            Locked: another writer has it, in this process or another.
            StorageAway: the storage is missing.
        """
        self.root.require()
        path = self.folder / key
        # Not in a thread: the lock of a request that is cancelled meanwhile would leak.
        descriptor = _lock(path)
        size_bytes = os.fstat(descriptor).st_size
        digest = self._digest_at(key, size_bytes)
        file = PartialFile(self.root, path, size_bytes, self.idle_timeout_s, descriptor, digest)
        try:
            yield file
        finally:
            digest = await file.close()
            if digest is not None:
                self._cache_digest(key, file.size_bytes, digest)

    async def size_bytes(self, key: str) -> int:
        """Durable length of the file; 0 if it doesn't exist.

        Raises:
            StorageAway: the storage is missing.
        """
        await asyncio.to_thread(self.root.require)
        return await asyncio.to_thread(_synced_size, self.folder / key)

    async def remove(self, key: str) -> None:
        """Remove the file; a missing one is no error."""
        self._digests.pop(key, None)
        with contextlib.suppress(FileNotFoundError):
            await asyncio.to_thread(os.unlink, self.folder / key)

    def idle_keys(self, age: timedelta) -> list[str]:
        """Keys of unlocked files that were last written to longer ago than `age` by the storage's own clock."""
        horizon = horizon_of(age, self.folder)
        return [
            path.name for path in self.folder.iterdir() if _is_key(path.name) and _idle_since(path, horizon)
        ]

    def _digest_at(self, key: str, size_bytes: int) -> Digest | None:
        known_bytes, digest = self._digests.pop(key, (0, hashlib.sha256()))
        return digest if known_bytes == size_bytes else None

    def _cache_digest(self, key: str, size_bytes: int, digest: Digest) -> None:
        self._digests[key] = (size_bytes, digest)
        if len(self._digests) > MAX_CACHED_DIGESTS:
            self._digests.popitem(last=False)


def _lock(path: Path) -> int:
    """Open a file under a lock that the kernel releases when the process dies, for whatever reason."""
    flags = os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | flags, 0o600)
    except PermissionError:  # complete, and made read-only when it was ingested as a blob
        descriptor = os.open(path, os.O_RDONLY | flags)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise Locked(
            "Another request is writing to this upload; query its offset again in a moment.",
            code="upload-busy",
        ) from error
    return descriptor


def _synced_size(path: Path) -> int:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return 0
    try:
        size_bytes = os.fstat(descriptor).st_size
        os.fsync(descriptor)
        return size_bytes
    finally:
        os.close(descriptor)


def _read_digest(path: Path) -> Digest:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256")


def _is_key(name: str) -> bool:
    """Whether the name is an upload's key; other files, such as `lost+found`, are left alone."""
    try:
        return str(UUID(name)) == name
    except ValueError:
        return False


def _idle_since(path: Path, horizon: float) -> bool:
    with contextlib.suppress(FileNotFoundError, Locked):
        descriptor = _lock(path)
        os.close(descriptor)
        return path.stat().st_mtime < horizon
    return False
