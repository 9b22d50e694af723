"""Space budget of an extraction: what the storage limits and the disk allow."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from pathlib import Path

from aerotask.domain.errors import TaskFailed

RESERVED_FRACTION = 0.01
"""Share of the disk that stays free for other tasks."""
RECHECK_BYTES = 64 * 1024 * 1024
"""Free space is checked again after this many bytes: other tasks write too, and not every format announces totals."""
_MB = 1_000_000


@dataclass(slots=True)
class SpaceBudget:
    """Counts the bytes written below `folder`, from any thread."""

    folder: Path
    growth_bytes: int | None
    """By how much stored bytes may grow; None: unlimited."""
    freed_bytes: int = 0
    """Stored bytes that replaced and removed entries may free."""
    _written_bytes: int = 0
    _recheck_at_bytes: int = RECHECK_BYTES
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def consume(self, count: int) -> None:
        """Count bytes that are about to be written.

        Raises:
            TaskFailed: the budget is exhausted (`storage-quota-exceeded`, `disk-full`).
        """
        with self._lock:
            self._written_bytes += count
            self.check_growth(self._written_bytes - self.freed_bytes)
            if self._written_bytes >= self._recheck_at_bytes:
                self._recheck_at_bytes = self._written_bytes + RECHECK_BYTES
                self.check_disk(count)

    def release(self, count: int) -> None:
        """Give back the bytes of a file that was removed."""
        with self._lock:
            self._written_bytes -= count

    def check_growth(self, more_bytes: int) -> None:
        """Check a growth of the stored bytes against the storage limits.

        Raises:
            TaskFailed: it is too much (`storage-quota-exceeded`).
        """
        if self.growth_bytes is not None and more_bytes > max(self.growth_bytes, 0):
            raise TaskFailed(
                f"The archive's contents need more than the {_mb(self.growth_bytes)} left by the storage limits; "
                "remove entries that are no longer needed, then retry.",
                code="storage-quota-exceeded",
            )

    def check_disk(self, size_bytes: int) -> None:
        """Check the free space on the disk; it may still shrink later while others write.

        Raises:
            TaskFailed: there is not enough (`disk-full`).
        """
        disk = os.statvfs(self.folder)
        free = (disk.f_bavail - int(RESERVED_FRACTION * disk.f_blocks)) * disk.f_frsize
        if size_bytes > free:
            raise TaskFailed(
                f"The archive needs {_mb(size_bytes)}, but the storage has only {_mb(free)} free; free some space, "
                "then retry.",
                code="disk-full",
            )


def _mb(count: int) -> str:
    return f"{max(count, 0) / _MB:.1f} MB"
