"""Files that grow over many requests: each is appended to by one writer at a time, and nothing that was written is lost.

The file's length is the truth about how much has come, across crashes and restarts: it is synced before
anybody is told of it, and a write that was cut short counts as far as it got.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Protocol
from uuid import UUID

from aerotask.domain.errors import Locked, TooLarge
from aerotask.failpoints import failpoint

WRITE_BYTES = 1024 * 1024
# A client that sends nothing for so long has gone, and must not keep others from resuming.
IDLE_TIMEOUT_S = 60.0
# How many files' hashes are carried on from request to request; any other is read anew once it is complete.
REMEMBERED = 1000


class Digest(Protocol):
    """A hash that can be carried on."""

    def update(self, data: bytes | memoryview, /) -> None:
        """Add bytes."""

    def hexdigest(self) -> str:
        """The hash of all bytes so far."""


@dataclass(slots=True)
class PartialFile:
    """One file, held by this writer alone."""

    path: Path
    size_bytes: int
    silence_s: float
    _descriptor: int
    _digest: Digest | None
    _writing: asyncio.Task[None] | None = None

    async def append(self, content: AsyncIterator[bytes], *, up_to_bytes: int) -> None:
        """Add what comes, and sync it; what came before the stream broke off is kept.

        Raises:
            TooLarge: it is more than makes the file `up_to_bytes` long; the part that is too much is not kept.
            TimeoutError: nothing came for `silence_s`.
        """
        gathered = bytearray()
        try:
            while (piece := await self._next(content)) is not None:
                if self.size_bytes + len(gathered) + len(piece) > up_to_bytes:
                    raise TooLarge(f"More came than the {up_to_bytes} bytes that were announced.")
                gathered += piece
                if len(gathered) >= WRITE_BYTES:
                    await self._write(gathered)
                    gathered = bytearray()
        finally:
            if gathered:
                await self._write(gathered)
            await self._settle()
            await asyncio.to_thread(os.fsync, self._descriptor)

    async def sha256(self) -> str:
        """The hash of everything; known already if this process has seen all of it come."""
        if self._digest is None:
            self._digest = await asyncio.to_thread(_read_digest, self.path)
        return self._digest.hexdigest()

    async def _next(self, content: AsyncIterator[bytes]) -> bytes | None:
        async with asyncio.timeout(self.silence_s):
            return await anext(content, None)

    async def _write(self, piece: bytes | bytearray) -> None:
        """Have a thread write and hash one piece while the next one comes."""
        await self._settle()
        self._writing = asyncio.create_task(asyncio.to_thread(self._write_all, piece))

    async def _settle(self) -> None:
        if self._writing is not None:
            # Shielded: a cancelled request leaves the thread writing, and `let_go` waits for it.
            await asyncio.shield(self._writing)
            self._writing = None

    def _write_all(self, piece: bytes | bytearray) -> None:
        view = memoryview(piece)
        while view:
            written = os.pwrite(self._descriptor, view, self.size_bytes)
            if self._digest is not None:
                self._digest.update(view[:written])
            self.size_bytes += written
            view = view[written:]
        failpoint("upload-written")

    async def let_go(self) -> Digest | None:
        """Close the file, which frees it for others; the hash so far."""
        if self._writing is not None:
            await asyncio.wait({self._writing})
        os.close(self._descriptor)
        return self._digest


@dataclass(slots=True)
class PartialFiles:
    """The growing files of one folder, which every process that takes uploads shares."""

    folder: Path
    silence_s: float = IDLE_TIMEOUT_S
    _digests: OrderedDict[str, tuple[int, Digest]] = field(default_factory=OrderedDict)

    def __post_init__(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    @asynccontextmanager
    async def held(self, key: str) -> AsyncIterator[PartialFile]:
        """The file of that key, made if it isn't there, for this writer alone.

        Raises:
            Locked: another writer has it, in this process or another.
        """
        path = self.folder / key
        # Not in a thread: a request that is cancelled meanwhile would leave the lock to nobody.
        descriptor = _lock(path)
        size_bytes = os.fstat(descriptor).st_size
        file = PartialFile(path, size_bytes, self.silence_s, descriptor, self._digest_at(key, size_bytes))
        try:
            yield file
        finally:
            digest = await file.let_go()
            if digest is not None:
                self._remember(key, file.size_bytes, digest)

    async def size_bytes(self, key: str) -> int:
        """How much of the file there is and will be after any crash; 0 if there is no file."""
        return await asyncio.to_thread(_synced_size, self.folder / key)

    async def remove(self, key: str) -> None:
        """Remove the file; one that isn't there is no error."""
        self._digests.pop(key, None)
        with contextlib.suppress(FileNotFoundError):
            await asyncio.to_thread(os.unlink, self.folder / key)

    def idle_for(self, age: timedelta) -> list[str]:
        """The keys of the files that nobody holds and nothing was written to for so long."""
        horizon = time.time() - age.total_seconds()
        return [
            path.name for path in self.folder.iterdir() if _is_key(path.name) and _idle_since(path, horizon)
        ]

    def _digest_at(self, key: str, size_bytes: int) -> Digest | None:
        known_bytes, digest = self._digests.pop(key, (0, hashlib.sha256()))
        return digest if known_bytes == size_bytes else None

    def _remember(self, key: str, size_bytes: int, digest: Digest) -> None:
        self._digests[key] = (size_bytes, digest)
        if len(self._digests) > REMEMBERED:
            self._digests.popitem(last=False)


def _lock(path: Path) -> int:
    """Open for appending under a lock that the kernel frees when the process dies, however it dies."""
    flags = os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | flags, 0o600)
    except PermissionError:  # complete, and made unchangeable when it was about to become a blob
        descriptor = os.open(path, os.O_RDONLY | flags)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise Locked(
            "Another request is writing to this upload; ask for its offset again in a moment.",
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
    """Whether the name is one of ours; what else lies in the folder, say of a file system, is none of our business."""
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
