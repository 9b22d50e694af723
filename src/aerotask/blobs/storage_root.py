"""Root folder of a storage: its marker file, by which a missing or foreign storage is recognised."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from aerotask.blobs.disk_space import DiskSpace, disk_space
from aerotask.blobs.ingest import sync_folder
from aerotask.domain.ids import new_id

MARKER = "installation"
"""Name of the marker file; it holds the id of the installation that the storage belongs to."""
PROBE_BYTES = 4096


class StorageAway(OSError):
    """The storage is not there: its folder or its marker file is missing, for instance since it isn't mounted."""


@dataclass(frozen=True, slots=True)
class StorageRoot:
    """Folder of a storage. Only `create` makes it, so that an unmounted storage is never replaced by an empty one."""

    path: Path
    min_free_bytes: int | None = None
    """Space that uploads leave free on the disk; None: a share of the disk."""

    @property
    def blobs(self) -> Path:
        """Folder of the blobs."""
        return self.path / "blobs"

    @property
    def partial(self) -> Path:
        """Folder of files that are being written."""
        return self.path / "partial"

    @property
    def work(self) -> Path:
        """Folder of the work folders."""
        return self.path / "work"

    @property
    def cache(self) -> Path:
        """Folder of rendered images, unless a setting names another."""
        return self.path / "cache"

    @property
    def uploads(self) -> Path:
        """Folder of the partial files of resumable uploads."""
        return self.path / "uploads"

    def installation_id(self) -> UUID | None:
        """The id in the marker file, or None if there is no such file.

        Raises:
            OSError: the file can't be read.
            StorageAway: it holds no id.
        """
        marker = self.path / MARKER
        try:
            text = marker.read_text(encoding="utf-8", errors="replace")
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            return UUID(text.strip())
        except ValueError as error:
            reason = f"{marker} holds no installation id; restore the file from a backup"
            raise StorageAway(errno.ENODEV, reason) from error

    def require(self) -> UUID:
        """Checks that the storage is there, before anything is written to it or taken for missing; the id in its marker file.

        Raises:
            StorageAway: it isn't.
        """
        marked = self.installation_id()
        if marked is None:
            raise StorageAway(
                errno.ENODEV,
                f"{self.path} has no marker file '{MARKER}': mount the storage, or run `aerotask migrate` if it is new",
            )
        return marked

    def space(self) -> DiskSpace:
        """The space of the storage's disk."""
        return disk_space(self.path, self.min_free_bytes)

    def require_space(self, more_bytes: int = 0) -> None:
        """Checks that the disk has room for so many more bytes.

        Raises:
            OSError: it doesn't (`ENOSPC`).
        """
        if not self.space().has_room_for(more_bytes):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))

    def probe(self) -> None:
        """Checks by a small write that more can be stored.

        Raises:
            OSError: it can't; the disk is full (`ENOSPC`), for example.
            StorageAway: the storage is missing.
        """
        self.require()
        self.require_space()
        written = self.partial / f".probe-{new_id()}"
        try:
            written.write_bytes(bytes(PROBE_BYTES))
        finally:
            written.unlink(missing_ok=True)

    def is_empty(self) -> bool:
        """True if the storage holds no blob."""
        if not self.blobs.is_dir():
            return True
        return not any(True for shard in self.blobs.iterdir() if shard.is_dir() for _ in shard.iterdir())

    def create(self, installation_id: UUID) -> None:
        """Creates the missing folders and writes the marker file; durable on return."""
        for folder in (self.blobs, self.partial, self.work, self.uploads, self.cache):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.installation_id() == installation_id:
            return
        written = self.path / f"{MARKER}.new"
        descriptor = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, f"{installation_id}\n".encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        written.rename(self.path / MARKER)
        sync_folder(self.path)
