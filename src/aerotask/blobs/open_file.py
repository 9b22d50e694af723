"""Open blob files, read in chunks; cancellation never leaks a descriptor."""

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
    """Blob file that is open for reading."""

    descriptor: int
    size_bytes: int

    async def chunks(self, start: int, stop: int) -> AsyncIterator[bytes]:
        """The bytes from `start` up to `stop`, in chunks of at most `READ_BYTES`."""
        while start < stop:
            count = min(READ_BYTES, stop - start)
            chunk = await asyncio.to_thread(os.pread, self.descriptor, count, start)
            if not chunk:
                raise OSError(errno.EIO, "a stored file has been truncated")
            start += len(chunk)
            yield chunk

    async def close(self) -> None:
        """Close the file."""
        os.close(self.descriptor)


async def open_file(path: Path) -> OpenFile:
    """Open a file for reading; a cancelled call leaves no descriptor open.

    Raises:
        FileNotFoundError: there is no such file.
    """
    opening = asyncio.ensure_future(asyncio.to_thread(_opened, path))
    try:
        # Shielded: the thread can't be cancelled, and the descriptor that it opens would leak.
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_close_opened)
        raise


def _opened(path: Path) -> OpenFile:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    return OpenFile(descriptor, os.fstat(descriptor).st_size)


def _close_opened(opening: asyncio.Future[OpenFile]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        os.close(opening.result().descriptor)
