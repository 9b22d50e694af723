"""LRU cache of rendered images as files in a folder of bounded size."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from aerotask.domain.ids import new_id

SHARE_AFTER_EVICTION = 0.8
"""Share of the size limit that an eviction leaves."""


class ImageCache:
    """Images by a digest of everything that determines them, so that none is ever stale.

    Several processes may share the folder, which isn't made here: it may belong to a storage that is away. The methods block and are thread-safe.
    """

    def __init__(self, folder: Path, *, limit_bytes: int) -> None:
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._known_bytes: int | None = None
        self._lock = threading.Lock()

    def get(self, digest: str) -> bytes | None:
        """The image with that digest, if cached."""
        path = self._path(digest)
        try:
            content = path.read_bytes()
        except OSError:  # an unreadable cache counts as empty
            return None
        if not content:  # files aren't synced, so a power failure may leave empty ones
            return None
        with suppress(OSError):
            os.utime(path)
        return content

    def remove(self, digest: str) -> None:
        """Removes a damaged image."""
        with suppress(OSError):
            self._path(digest).unlink(missing_ok=True)

    def put(self, digest: str, content: bytes) -> None:
        """Caches an image, and evicts others if the folder is too large; disk errors are ignored."""
        path = self._path(digest)
        partial = path.with_name(f"{path.name}.{new_id()}")
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            partial.write_bytes(content)
            partial.replace(path)
        except OSError:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            return
        self._account(len(content))

    def _path(self, digest: str) -> Path:
        return self._folder / digest[:2] / digest

    def _account(self, added_bytes: int) -> None:
        with self._lock:
            if self._known_bytes is None:
                self._known_bytes = sum(status.st_size for _, status in self._files())
            else:
                self._known_bytes += added_bytes
            if self._known_bytes > self._limit_bytes:
                self._known_bytes = self._evict()

    def _evict(self) -> int:
        """Removes the least recently used images; the bytes that are left."""
        files = sorted(self._files(), key=lambda file: file[1].st_mtime)
        left = sum(status.st_size for _, status in files)
        for path, status in files:
            if left <= self._limit_bytes * SHARE_AFTER_EVICTION:
                break
            with suppress(OSError):
                path.unlink()
            left -= status.st_size
        return left

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        with suppress(OSError):
            for shard in self._folder.iterdir():
                for path in shard.iterdir():
                    with suppress(OSError):
                        yield path, path.stat()
