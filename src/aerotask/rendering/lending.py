"""Blobs as files that children can open: lent once, kept for a while, since a map asks for many tiles of one raster."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from aerotask.blobs.port import BlobStore
from aerotask.cancelling import end
from aerotask.domain.errors import NotFound
from aerotask.domain.ids import new_id

KEPT_FILES = 64


@dataclass(slots=True, eq=False)
class _Loan:
    path: Path
    lending: asyncio.Task[None]
    users: int = 0


class LentFiles:
    """The files lent to one process's children."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        # Below the folder of work folders, so that the sweep finds what a killed process leaves.
        self.folder = blobs.work_root / f"draw-{new_id()}"
        self.on_new_folder: Callable[[], None] = lambda: None
        """Called when the folder is made, for the first time or again; children know it by what it is."""
        self._loans: OrderedDict[str, _Loan] = OrderedDict()

    @asynccontextmanager
    async def file(self, blob_key: str) -> AsyncIterator[Path]:
        """The blob's content as a file, which stays for as long as the block lasts.

        Raises:
            NotFound: the storage has no such blob (any more).
        """
        loan = await self._borrow(blob_key)
        try:
            yield loan.path
        finally:
            loan.users -= 1
            await self._give_back_some()

    async def close(self) -> None:
        """Give everything back."""
        await end(*(loan.lending for loan in self._loans.values()))
        self._loans.clear()
        await asyncio.to_thread(shutil.rmtree, self.folder, ignore_errors=True)

    async def _borrow(self, blob_key: str) -> _Loan:
        while True:
            loan = self._loan(blob_key)
            loan.users += 1  # before anything is awaited, so that nobody gives it back
            there = False
            try:
                # Shielded: others may wait for the same content.
                await asyncio.shield(loan.lending)
                there = await asyncio.to_thread(_in_use, loan.path)
            except FileNotFoundError as error:
                raise NotFound("The content is missing from the storage.") from error
            finally:
                if not there:
                    loan.users -= 1
                    self._forget(blob_key, loan)
            if there:
                return loan
            # The sweep took our folder for a dead process's: once more.

    def _loan(self, blob_key: str) -> _Loan:
        if blob_key not in self._loans:
            path = self.folder / blob_key
            self._loans[blob_key] = _Loan(path, asyncio.create_task(self._lend(blob_key, path)))
        self._loans.move_to_end(blob_key)
        return self._loans[blob_key]

    async def _lend(self, blob_key: str, path: Path) -> None:
        with suppress(FileExistsError):
            await asyncio.to_thread(path.parent.mkdir, mode=0o700, parents=True)
            self.on_new_folder()
        with suppress(FileExistsError):
            await self._blobs.lend(blob_key, path)

    def _forget(self, blob_key: str, loan: _Loan) -> None:
        if self._loans.get(blob_key) is loan:
            del self._loans[blob_key]

    async def _give_back_some(self) -> None:
        unused = [(key, loan) for key, loan in self._loans.items() if not loan.users and loan.lending.done()]
        for key, loan in unused[: max(len(self._loans) - KEPT_FILES, 0)]:
            del self._loans[key]
            await asyncio.to_thread(loan.path.unlink, missing_ok=True)


def _in_use(path: Path) -> bool:
    """Show the sweep that the file's folder is in use; whether the file is still there."""
    with suppress(FileNotFoundError):
        os.utime(path.parent)
    return path.exists()
