"""Files that are held open and read in pieces, without ever losing a descriptor."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

READ_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A blob's file, held open."""

    descriptor: int
    size_bytes: int

    async def chunks(self, start: int, stop: int) -> AsyncIterator[bytes]:
        """The bytes from `start` up to `stop`, in pieces of at most `READ_BYTES`."""
        while start < stop:
            wanted = min(READ_BYTES, stop - start)
            piece = await asyncio.to_thread(os.pread, self.descriptor, wanted, start)
            if not piece:
                raise OSError(errno.EIO, "a stored file is shorter than it was")
            start += len(piece)
            yield piece

    async def close(self) -> None:
        """Close the file."""
        os.close(self.descriptor)


async def open_file(path: Path) -> OpenFile:
    """Open a file for reading; who is cancelled meanwhile leaves no descriptor behind.

    Raises:
        FileNotFoundError: there is no such file.
    """
    opening = asyncio.ensure_future(asyncio.to_thread(_opened, path))
    try:
        # Shielded: the thread can't be called back, and what it opens would belong to nobody.
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_close_unwanted)
        raise


def _opened(path: Path) -> OpenFile:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    return OpenFile(descriptor, os.fstat(descriptor).st_size)


def _close_unwanted(opening: asyncio.Future[OpenFile]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        os.close(opening.result().descriptor)
