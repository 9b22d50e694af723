"""Local file cache of blobs for the render children, since a map requests many tiles of one raster.

A cached file occupies disk space even after its blob was deleted; unused files are therefore bounded by number, size
and age.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from aerotask.aio import cancel_and_wait
from aerotask.blobs.blob_check import wrong_length
from aerotask.blobs.blob_store import BlobStore
from aerotask.blobs.missing import content_missing
from aerotask.domain.ids import new_id


@dataclass(frozen=True, slots=True)
class CacheLimits:
    """Limits of the unused files in the cache."""

    files: int = 64
    total_bytes: int = 16 * 1024**3
    ttl_s: float = 300.0


@dataclass(slots=True, eq=False)
class _Entry:
    path: Path
    linking: asyncio.Task[int]
    """Its result is the file's size in bytes."""
    users: int = 0
    unused_since: float = 0.0


class LocalFileCache:
    """Blobs as local files, reference-counted while in use, for the children of one process."""

    def __init__(self, blobs: BlobStore, limits: CacheLimits = CacheLimits()) -> None:
        self._blobs = blobs
        self._limits = limits
        # Within the work root, where maintenance removes the folders of killed processes.
        self.folder = blobs.work_root / f"draw-{new_id()}"
        self.on_new_folder: Callable[[], None] = lambda: None
        """Called when the folder is created or recreated; children are confined to the folder's inode."""
        # Least recently used first.
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        # Unique file names, otherwise a late eviction could unlink the file of the next entry for the same blob.
        self._numbers = count()
        self._evicting: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def file(self, blob_key: str, size_bytes: int | None = None) -> AsyncIterator[Path]:
        """The blob's content as a local file, which stays until the end of the block.

        Raises:
            Unavailable: the storage has no such blob.
            ContentDamaged: its length isn't `size_bytes`.
        """
        entry = await self._acquire(blob_key)
        damaged = size_bytes is not None and entry.linking.result() != size_bytes
        try:
            if damaged:
                raise wrong_length(blob_key, entry.linking.result(), size_bytes)
            yield entry.path
        finally:
            entry.users -= 1
            entry.unused_since = _now()
            # A damaged file isn't kept: it may be repaired at any moment.
            await self._evict([(blob_key, entry)] if damaged and not entry.users else self._evictable())
            self._schedule_eviction()

    async def close(self) -> None:
        """Removes all files and the folder."""
        if self._evicting is not None:
            await cancel_and_wait(self._evicting)
        await cancel_and_wait(*(entry.linking for entry in self._entries.values()))
        self._entries.clear()
        await asyncio.to_thread(shutil.rmtree, self.folder, ignore_errors=True)

    async def _acquire(self, blob_key: str) -> _Entry:
        while True:
            entry = self._entry(blob_key)
            entry.users += 1  # before the first await, otherwise the entry could be evicted
            exists = False
            try:
                # Shielded: others may wait for the same file.
                await asyncio.shield(entry.linking)
                exists = await asyncio.to_thread(_touch, entry.path)
            except FileNotFoundError as error:
                raise content_missing(blob_key) from error
            finally:
                if not exists:
                    entry.users -= 1
                    self._remove(blob_key, entry)
            if exists:
                return entry
            # Maintenance removed the folder as one of a dead process: link the file again.

    def _entry(self, blob_key: str) -> _Entry:
        if blob_key not in self._entries:
            path = self.folder / f"{next(self._numbers)}-{blob_key}"
            self._entries[blob_key] = _Entry(path, asyncio.create_task(self._link(blob_key, path)))
        self._entries.move_to_end(blob_key)
        return self._entries[blob_key]

    async def _link(self, blob_key: str, path: Path) -> int:
        if await self._blobs.make_work_folder(self.folder.name):
            self.on_new_folder()
        await self._blobs.link_to(blob_key, path)
        return (await asyncio.to_thread(path.stat)).st_size

    def _remove(self, blob_key: str, entry: _Entry) -> None:
        if self._entries.get(blob_key) is entry:
            del self._entries[blob_key]

    def _unused(self) -> list[tuple[str, _Entry]]:
        """Unused entries, most recently used first."""
        return [
            (key, entry)
            for key, entry in reversed(self._entries.items())
            if not entry.users and entry.linking.done() and not entry.linking.cancelled()
        ]

    def _evictable(self) -> list[tuple[str, _Entry]]:
        """Unused entries beyond the limits on number, total size or age."""
        evictable: list[tuple[str, _Entry]] = []
        files = len(self._entries) - len(self._unused())
        total_bytes, horizon = 0, _now() - self._limits.ttl_s
        for key, entry in self._unused():
            files += 1
            total_bytes += _size_bytes(entry)
            if (
                files > self._limits.files
                or total_bytes > self._limits.total_bytes
                or entry.unused_since <= horizon
            ):
                evictable.append((key, entry))
        return evictable

    async def _evict(self, entries: list[tuple[str, _Entry]]) -> None:
        for key, entry in entries:
            self._remove(key, entry)
        for _, entry in entries:
            await asyncio.to_thread(entry.path.unlink, missing_ok=True)

    def _schedule_eviction(self) -> None:
        if self._evicting is None or self._evicting.done():
            self._evicting = asyncio.create_task(self._evict_expired())

    async def _evict_expired(self) -> None:
        """Evicts unused entries as they expire, until none is left."""
        while unused := self._unused():
            oldest = min(entry.unused_since for _, entry in unused)
            await asyncio.sleep(max(oldest + self._limits.ttl_s - _now(), 0))
            await self._evict(self._evictable())


def _now() -> float:
    return asyncio.get_running_loop().time()


def _size_bytes(entry: _Entry) -> int:
    return 0 if entry.linking.exception() is not None else entry.linking.result()


def _touch(path: Path) -> bool:
    """Touches the file's folder, so that maintenance keeps it; whether the file exists."""
    with suppress(FileNotFoundError):
        os.utime(path.parent)
    return path.exists()
