"""Protocol of a blob store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Protocol
from uuid import UUID

from aerotask.blobs.disk_space import DiskSpace
from aerotask.domain.errors import ContentDamaged


@dataclass(frozen=True, slots=True)
class Blob:
    """Stored content: written once, never changed, addressed only by its key."""

    key: str
    sha256: str
    size_bytes: int


class OpenBlob(Protocol):
    """Blob that is open for reading: it stays readable to its end even after the blob is removed."""

    @property
    def size_bytes(self) -> int:
        """The content's length."""

    def chunks(self, start: int, stop: int) -> AsyncIterator[bytes]:
        """The bytes from `start` up to `stop`, in chunks."""

    async def close(self) -> None:
        """Close the blob."""


class BlobStore(Protocol):
    """Write-once storage under generated keys.

    All methods may raise `OSError`. `StorageAway` means that the whole storage is missing: then nothing is written, and no
    blob is taken for missing.
    """

    async def put(self, content: AsyncIterator[bytes], *, limit_bytes: int) -> Blob:
        """Store a stream and hash it on the way; durable on return.

        Raises:
            TooLarge: the stream is longer than `limit_bytes`; nothing is stored.
        """

    async def ingest(self, path: Path, *, sha256: str | None = None) -> Blob:
        """Move a finished file into the store; durable on return.

        With `sha256` the file isn't read again: the caller vouches for its hash.
        """

    async def ingest_all(self, files: Sequence[Path]) -> list[Blob]:
        """Move many finished files into the store, as `ingest`, with one sync of the disk for all."""

    async def ingest_copy(self, path: Path, *, sha256: str) -> Blob:
        """Store a finished file that also keeps its own name until its owner removes it; durable on return."""

    async def open(self, key: str, *, size_bytes: int) -> OpenBlob:
        """Open a blob for reading.

        Raises:
            FileNotFoundError: there is no such blob.
            ContentDamaged: its length isn't `size_bytes`.
        """

    async def find_damage(
        self, key: str, *, size_bytes: int | None, sha256: str | None
    ) -> ContentDamaged | None:
        """The difference of a blob's file from its length and hash, or None; those that are None aren't compared."""

    async def repair(self, key: str, storage: Path, *, sha256: str) -> bool:
        """Replace a blob's file by the one in a copy of the storage, if that has the hash; whether it had."""

    async def link_to(self, key: str, target: Path) -> None:
        """Make the content readable as the file `target`, unchanged for as long as that file exists."""

    async def link_all_to(self, links: Sequence[tuple[str, Path]]) -> None:
        """Link many blobs to files, as `link_to`; creates the folders of the files."""

    async def remove(self, key: str) -> bool:
        """Remove a blob; False if it was missing already."""

    def work_older_than(self, age: timedelta) -> list[str]:
        """Names of work folders last changed longer ago than `age` by the storage's own clock."""

    def all_keys(self) -> Iterator[list[str]]:
        """Keys of all blobs, in batches."""

    def remove_partial(self, age: timedelta) -> None:
        """Remove unfinished files that were last written to longer ago than `age` by the storage's own clock."""

    def installation_id(self) -> UUID | None:
        """The id of the installation that the storage belongs to; None if it isn't marked or isn't there."""

    def is_empty(self) -> bool:
        """True if the storage holds no blob."""

    def create(self, installation_id: UUID) -> None:
        """Create the storage, or what is missing of it, and mark it as that installation's."""

    def require(self) -> UUID:
        """Check that the storage is there; the id of its installation.

        Raises:
            StorageAway: it isn't.
        """

    def space(self) -> DiskSpace:
        """The space of the store's disk."""

    def require_space(self, more_bytes: int) -> None:
        """Check that the store has room for so many more bytes.

        Raises:
            OSError: it doesn't (`ENOSPC`).
        """

    def probe(self) -> None:
        """Check by a small write that more can be stored.

        Raises:
            OSError: it can't; the disk is full (`ENOSPC`), for example.
        """

    async def make_work_folder(self, name: str) -> bool:
        """Create a work folder within the work root; False if there is one of that name already."""

    @property
    def cache_folder(self) -> Path:
        """Folder for what can be made again from blobs."""

    @property
    def work_root(self) -> Path:
        """Folder for the work folders of runs, on the disk of the store, so that `ingest` only renames."""
