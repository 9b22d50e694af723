"""What the platform needs of a store of contents."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Blob:
    """A stored content: written once, never changed, named by nothing but its key."""

    key: str
    sha256: str
    size_bytes: int


class OpenBlob(Protocol):
    """A blob held open: it can be read to its end even after it has been removed."""

    @property
    def size_bytes(self) -> int:
        """The content's length."""

    def chunks(self, start: int, stop: int) -> AsyncIterator[bytes]:
        """The bytes from `start` up to `stop`, in pieces."""

    async def close(self) -> None:
        """Let go of it."""


class BlobStore(Protocol):
    """Write-once storage under generated keys. All methods may raise `OSError`."""

    async def put(self, content: AsyncIterator[bytes], *, limit_bytes: int) -> Blob:
        """Store a stream, hashing it on the way; durable when this returns.

        Raises:
            TooLarge: the stream is longer than `limit_bytes`; nothing is kept.
        """

    async def adopt(self, path: Path, *, sha256: str | None = None) -> Blob:
        """Store a finished file, taking it away from where it is; durable when this returns.

        With `sha256`, whoever made the file answers for its hash, and it isn't read again.
        """

    async def adopt_all(self, files: Sequence[Path]) -> list[Blob]:
        """As `adopt`, for many files at once: the disk is waited for once and not for each."""

    async def share(self, path: Path, *, sha256: str) -> Blob:
        """Store a finished file that keeps its own name as well, until its owner removes it; durable as above."""

    async def open(self, key: str) -> OpenBlob:
        """Open a blob for reading.

        Raises:
            FileNotFoundError: there is no such blob.
        """

    async def lend(self, key: str, to: Path) -> None:
        """Make the content readable as the file `to`, unchanged for as long as that file exists."""

    async def lend_all(self, lent: Sequence[tuple[str, Path]]) -> None:
        """As `lend`, for many blobs at once; makes the folders that the files lie in."""

    async def remove(self, key: str) -> None:
        """Remove a blob; one that isn't there is no error."""

    def older_than(self, age: timedelta) -> Iterator[list[str]]:
        """The keys of blobs stored longer ago than `age`, in batches."""

    @property
    def work_root(self) -> Path:
        """The folder in which runs get their work folders, on a disk from which `adopt` is cheap."""
