"""Pinned blobs: hard links that keep contents readable for one reader while their entries change."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from aerotask.aio import cancel_and_wait
from aerotask.blobs.blob_store import BlobStore, OpenBlob
from aerotask.blobs.open_file import open_file
from aerotask.domain.ids import new_id

REFRESH_S = 10.0
"""Interval for touching the folder, far shorter than any grace time: maintenance removes untouched work folders."""


@dataclass(frozen=True, slots=True, eq=False)
class PinnedBlobs:
    """Hard links to blobs in a work folder; `release` removes it, or maintenance if the process dies."""

    folder: Path
    _blobs: BlobStore
    _refreshing: asyncio.Task[None]

    async def add(self, keys: Iterable[str]) -> None:
        """Pin more blobs.

        Raises:
            FileNotFoundError: one of them is not (or no longer) in the storage.
        """
        await self._blobs.link_all_to([(key, self.folder / key) for key in dict.fromkeys(keys)])

    async def open(self, name: str) -> OpenBlob:
        """Open a pinned blob, or another file in the folder."""
        return await open_file(self.folder / name)

    async def release(self) -> None:
        """Unpin the blobs and remove the folder."""
        await cancel_and_wait(self._refreshing)
        await asyncio.to_thread(shutil.rmtree, self.folder, ignore_errors=True)


async def pin_blobs(blobs: BlobStore, *, refresh_s: float = REFRESH_S) -> PinnedBlobs:
    """Create an empty folder for pinned blobs."""
    folder = blobs.work_root / f"send-{new_id()}"
    await blobs.make_work_folder(folder.name)
    return PinnedBlobs(folder, blobs, asyncio.create_task(_refresh(folder, refresh_s)))


async def _refresh(folder: Path, every_s: float) -> None:
    while True:
        await asyncio.sleep(every_s)
        with suppress(OSError):
            await asyncio.to_thread(os.utime, folder)
