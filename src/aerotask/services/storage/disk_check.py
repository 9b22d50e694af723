"""Check by a small write whether the storage is full, for readiness and before new work is accepted."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from aerotask.blobs.blob_store import BlobStore
from aerotask.domain.disk_full import is_disk_full
from aerotask.domain.errors import DiskFull

EVERY_S = 3.0
"""Time for which a result is kept."""


@dataclass(slots=True)
class DiskCheck:
    """Latest result of the check in this process."""

    blobs: BlobStore
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _full: bool = False
    _checked_at: float = float("-inf")

    async def is_full(self) -> bool:
        """True if nothing more can be stored, as of a moment ago.

        Raises:
            OSError: the storage can't be written to for another reason.
        """
        async with self._lock:
            now = asyncio.get_running_loop().time()
            if now - self._checked_at > EVERY_S:
                self._full = await asyncio.to_thread(self._check)
                self._checked_at = now
            return self._full

    async def raise_if_full(self) -> None:
        """Raises if new work would fail for want of space.

        Raises:
            DiskFull: the storage is full.
        """
        try:
            full = await self.is_full()
        except OSError:  # tasks wait for a storage that is away
            return
        if full:
            raise DiskFull

    def _check(self) -> bool:
        try:
            self.blobs.probe()
        except OSError as error:
            if is_disk_full(error):
                return True
            raise
        return False
