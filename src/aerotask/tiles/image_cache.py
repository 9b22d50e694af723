"""Pictures that were drawn, as files of a folder that doesn't grow beyond its limit; what was last used stays."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from aerotask.domain.ids import new_id

KEPT_SHARE = 0.8
"""How much of the limit is left when the folder is cleared."""


class ImageCache:
    """Contents by a digest of everything that they follow from, so none is ever out of date.

    Several processes may share the folder. The methods block, and may be called from threads.
    """

    def __init__(self, folder: Path, *, limit_bytes: int) -> None:
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._known_bytes: int | None = None
        self._clearing = threading.Lock()

    def get(self, digest: str) -> bytes | None:
        """The content of that digest, if it is there."""
        path = self._path(digest)
        try:
            content = path.read_bytes()
        except OSError:  # a cache that can't be read is an empty one
            return None
        if not content:  # what a loss of power leaves of a file that wasn't synced
            return None
        with suppress(OSError):
            os.utime(path)
        return content

    def forget(self, digest: str) -> None:
        """Remove a content that turns out to be of no use."""
        with suppress(OSError):
            self._path(digest).unlink(missing_ok=True)

    def put(self, digest: str, content: bytes) -> None:
        """Keep a content, and clear the folder if it has grown too large. A disk that fails keeps nothing."""
        path = self._path(digest)
        partial = path.with_name(f"{path.name}.{new_id()}")
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            partial.write_bytes(content)
            partial.replace(path)
        except OSError:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            return
        self._grow(len(content))

    def _path(self, digest: str) -> Path:
        return self._folder / digest[:2] / digest

    def _grow(self, by_bytes: int) -> None:
        with self._clearing:
            if self._known_bytes is None:
                self._known_bytes = sum(status.st_size for _, status in self._files())
            else:
                self._known_bytes += by_bytes
            if self._known_bytes > self._limit_bytes:
                self._known_bytes = self._clear()

    def _clear(self) -> int:
        """Remove what hasn't been used for longest; the bytes that are left."""
        files = sorted(self._files(), key=lambda file: file[1].st_mtime)
        left = sum(status.st_size for _, status in files)
        for path, status in files:
            if left <= self._limit_bytes * KEPT_SHARE:
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
