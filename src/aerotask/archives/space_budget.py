"""How much may be kept of what comes out of an archive: what the storage limits leave, and what the disk has."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from pathlib import Path

from aerotask.domain.errors import TaskFailed

KEPT_FREE = 0.01
"""This part of the disk stays free, for everybody else's work."""
LOOK_BYTES = 64 * 1024 * 1024
"""After so many bytes the disk is looked at again: others write to it too, and not every archive announces."""
_MB = 1_000_000


@dataclass(slots=True)
class SpaceBudget:
    """Counts the bytes that are written, from any thread; `folder` is where to."""

    folder: Path
    growth_bytes: int | None
    """How much more may be stored than is; None: as much as the disk takes."""
    freed_bytes: int = 0
    """How much of what is stored may go for it: what may be replaced, and what will be removed."""
    _taken: int = 0
    _look_at: int = LOOK_BYTES
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, count: int) -> None:
        """Note that so many bytes are about to be written.

        Raises:
            TaskFailed: there is no room for them (`storage-quota-exceeded`, `disk-full`).
        """
        with self._lock:
            self._taken += count
            self.expect_growth(self._taken - self.freed_bytes)
            if self._taken >= self._look_at:
                self._look_at = self._taken + LOOK_BYTES
                self.expect_on_disk(count)

    def expect_growth(self, more_bytes: int) -> None:
        """Let through what would make so many bytes more be stored.

        Raises:
            TaskFailed: they are too many (`storage-quota-exceeded`).
        """
        if self.growth_bytes is not None and more_bytes > max(self.growth_bytes, 0):
            raise TaskFailed(
                f"What comes out of the archive needs more than the {_mb(self.growth_bytes)} that the storage "
                "limits leave; remove what isn't needed any more.",
                code="storage-quota-exceeded",
            )

    def expect_on_disk(self, size_bytes: int) -> None:
        """Let through what will take so many bytes of the disk; what others take meanwhile still shows later.

        Raises:
            TaskFailed: it has less (`disk-full`).
        """
        disk = os.statvfs(self.folder)
        free = (disk.f_bavail - int(KEPT_FREE * disk.f_blocks)) * disk.f_frsize
        if size_bytes > free:
            raise TaskFailed(
                f"The archive needs {_mb(size_bytes)}, and the storage has {_mb(free)} to spare; free space, then "
                "retry.",
                code="disk-full",
            )


def _mb(count: int) -> str:
    return f"{max(count, 0) / _MB:.1f} MB"
