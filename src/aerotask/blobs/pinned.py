"""Contents that stay readable for one reader, whatever becomes of the entries that they were of."""

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

FRESHEN_S = 10.0
"""How often the sweep is shown that the folder is in use: far oftener than any grace time asks for."""


@dataclass(frozen=True, slots=True, eq=False)
class PinnedBlobs:
    """Second names of blobs in a work folder; it stays until `let_go`, and if the process dies, the sweep has it."""

    folder: Path
    _blobs: BlobStore
    _freshening: asyncio.Task[None]

    async def add(self, keys: Iterable[str]) -> None:
        """Hold these blobs too.

        Raises:
            FileNotFoundError: one of them isn't in the storage (any more).
        """
        await self._blobs.lend_all([(key, self.folder / key) for key in dict.fromkeys(keys)])

    async def open(self, name: str) -> OpenBlob:
        """Open a blob that is held, or another file of the folder."""
        return await open_file(self.folder / name)

    async def let_go(self) -> None:
        """Give the blobs back, and remove whatever else lies in the folder."""
        await cancel_and_wait(self._freshening)
        await asyncio.to_thread(shutil.rmtree, self.folder, ignore_errors=True)


async def hold(blobs: BlobStore, *, freshen_s: float = FRESHEN_S) -> PinnedBlobs:
    """A folder to hold blobs in, which is empty at first."""
    folder = blobs.work_root / f"send-{new_id()}"
    await asyncio.to_thread(folder.mkdir, mode=0o700)
    return PinnedBlobs(folder, blobs, asyncio.create_task(_freshen(folder, freshen_s)))


async def _freshen(folder: Path, every_s: float) -> None:
    while True:
        await asyncio.sleep(every_s)
        with suppress(OSError):
            await asyncio.to_thread(os.utime, folder)
