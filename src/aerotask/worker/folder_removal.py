"""Removal of work folders, which waits while the storage is away."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from aerotask.blobs.blob_store import BlobStore


@dataclass(frozen=True, slots=True)
class FolderRemoval:
    """Removes the work folders of a worker's attempts; those that can't be reached are removed later."""

    blobs: BlobStore
    _waiting: set[Path] = field(default_factory=set)

    async def remove(self, folder: Path) -> None:
        """Remove the folder, or as soon as the storage is there."""
        self._waiting.add(folder)
        await self.retry()

    async def retry(self) -> None:
        """Remove the folders that wait, if the storage is there."""
        if not self._waiting:
            return
        try:
            await asyncio.to_thread(self.blobs.require)
        except OSError:
            return
        for folder in list(self._waiting):
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
            self._waiting.discard(folder)
