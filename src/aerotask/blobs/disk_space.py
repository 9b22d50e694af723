"""Free space of the storage's disk, and the two amounts below which something is done about it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

GIB = 1024**3
_MIN_FREE_FRACTION = 0.02
_SHORT_FACTOR = 5


@dataclass(frozen=True, slots=True)
class DiskSpace:
    """Space of a disk, as far as this account may use it."""

    free_bytes: int
    min_free_bytes: int
    """Space that uploads leave free: for a database on the same disk, without which nothing could be deleted."""

    @property
    def is_short(self) -> bool:
        """True if deleted files may not wait for their grace time."""
        return self.free_bytes < _SHORT_FACTOR * self.min_free_bytes

    def has_room_for(self, more_bytes: int) -> bool:
        """True if so many more bytes leave the minimum free."""
        return self.free_bytes - more_bytes >= self.min_free_bytes


def disk_space(folder: Path, min_free_bytes: int | None) -> DiskSpace:
    """The space of the folder's disk; without a minimum, that is a fiftieth of the disk, at most 1 GiB."""
    status = os.statvfs(folder)
    if min_free_bytes is None:
        min_free_bytes = min(int(status.f_blocks * status.f_frsize * _MIN_FREE_FRACTION), GIB)
    return DiskSpace(status.f_bavail * status.f_frsize, min_free_bytes)
