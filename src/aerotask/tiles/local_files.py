"""Blobs as files that children can open: lent once, kept for a while, since a map asks for many tiles of one raster.

A file that is lent keeps its content on the disk also when the blob has been removed, so what nobody uses is
bounded by number, by bytes and by time.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from aerotask.aio import cancel_and_wait
from aerotask.blobs.blob_store import BlobStore
from aerotask.domain.errors import NotFound
from aerotask.domain.ids import new_id


@dataclass(frozen=True, slots=True)
class CacheLimits:
    """What of the files that nobody uses is kept for who comes next."""

    files: int = 64
    total_bytes: int = 16 * 1024**3
    for_s: float = 300.0


@dataclass(slots=True, eq=False)
class _Entry:
    path: Path
    lending: asyncio.Task[int]
    """Its outcome is the file's length."""
    users: int = 0
    unused_since: float = 0.0


class LocalFileCache:
    """The files lent to one process's children."""

    def __init__(self, blobs: BlobStore, kept: CacheLimits = CacheLimits()) -> None:
        self._blobs = blobs
        self._kept = kept
        # Below the folder of work folders, so that the sweep finds what a killed process leaves.
        self.folder = blobs.work_root / f"draw-{new_id()}"
        self.on_new_folder: Callable[[], None] = lambda: None
        """Called when the folder is made, for the first time or again; children know it by what it is."""
        # Those used last come last.
        self._loans: OrderedDict[str, _Entry] = OrderedDict()
        # Each has a name of its own, so that one that is given back is never taken for the next.
        self._numbers = count()
        self._tidying: asyncio.Task[None] | None = None

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
            loan.unused_since = _now()
            await self._give_back(self._beyond_what_is_kept())
            self._tidy_later()

    async def close(self) -> None:
        """Give everything back."""
        if self._tidying is not None:
            await cancel_and_wait(self._tidying)
        await cancel_and_wait(*(loan.lending for loan in self._loans.values()))
        self._loans.clear()
        await asyncio.to_thread(shutil.rmtree, self.folder, ignore_errors=True)

    async def _borrow(self, blob_key: str) -> _Entry:
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

    def _loan(self, blob_key: str) -> _Entry:
        if blob_key not in self._loans:
            path = self.folder / f"{next(self._numbers)}-{blob_key}"
            self._loans[blob_key] = _Entry(path, asyncio.create_task(self._lend(blob_key, path)))
        self._loans.move_to_end(blob_key)
        return self._loans[blob_key]

    async def _lend(self, blob_key: str, path: Path) -> int:
        with suppress(FileExistsError):
            await asyncio.to_thread(path.parent.mkdir, mode=0o700, parents=True)
            self.on_new_folder()
        await self._blobs.link_to(blob_key, path)
        return (await asyncio.to_thread(path.stat)).st_size

    def _forget(self, blob_key: str, loan: _Entry) -> None:
        if self._loans.get(blob_key) is loan:
            del self._loans[blob_key]

    def _unused(self) -> list[tuple[str, _Entry]]:
        """The loans that could be given back, those that were used last first."""
        return [
            (key, loan)
            for key, loan in reversed(self._loans.items())
            if not loan.users and loan.lending.done() and not loan.lending.cancelled()
        ]

    def _beyond_what_is_kept(self) -> list[tuple[str, _Entry]]:
        """The unused loans that are too many, too large together, or unused for too long."""
        beyond: list[tuple[str, _Entry]] = []
        files = len(self._loans) - len(self._unused())
        total_bytes, horizon = 0, _now() - self._kept.for_s
        for key, loan in self._unused():
            files += 1
            total_bytes += _size_bytes(loan)
            if (
                files > self._kept.files
                or total_bytes > self._kept.total_bytes
                or loan.unused_since <= horizon
            ):
                beyond.append((key, loan))
        return beyond

    async def _give_back(self, loans: list[tuple[str, _Entry]]) -> None:
        for key, loan in loans:
            self._forget(key, loan)
        for _, loan in loans:
            await asyncio.to_thread(loan.path.unlink, missing_ok=True)

    def _tidy_later(self) -> None:
        if self._tidying is None or self._tidying.done():
            self._tidying = asyncio.create_task(self._tidy())

    async def _tidy(self) -> None:
        """Give back what nobody has used for long, until nothing is left that could be."""
        while unused := self._unused():
            oldest = min(loan.unused_since for _, loan in unused)
            await asyncio.sleep(max(oldest + self._kept.for_s - _now(), 0))
            await self._give_back(self._beyond_what_is_kept())


def _now() -> float:
    return asyncio.get_running_loop().time()


def _size_bytes(loan: _Entry) -> int:
    return 0 if loan.lending.exception() is not None else loan.lending.result()


def _in_use(path: Path) -> bool:
    """Show the sweep that the file's folder is in use; whether the file is still there."""
    with suppress(FileNotFoundError):
        os.utime(path.parent)
    return path.exists()
