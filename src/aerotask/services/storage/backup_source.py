"""Sources of a restoration: a complete backup in a folder or in a TAR file."""

from __future__ import annotations

import contextlib
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Protocol

from aerotask.blobs.blob_check import Readable
from aerotask.domain.errors import InvalidInput
from aerotask.services.storage.backup_files import MANIFEST, Manifest

_COPY_BYTES = 1024 * 1024


class BackupSource(Protocol):
    """A complete backup that is read."""

    manifest: Manifest

    def copy_file(self, name: str, target: Path) -> None:
        """Copies one of the backup's files that isn't a blob."""

    def open_blob(self, key: str) -> AbstractContextManager[Readable]:
        """Opens a blob for the block.

        Raises:
            FileNotFoundError: the backup doesn't have it.
        """

    def close(self) -> None:
        """Closes the backup."""


class StoredFolder:
    """A backup in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.manifest = Manifest.from_json(_manifest_of((folder / MANIFEST).read_bytes, folder))

    def copy_file(self, name: str, target: Path) -> None:
        """Copies a file of the folder."""
        shutil.copyfile(self._folder / name, target)

    def open_blob(self, key: str) -> AbstractContextManager[Readable]:
        """Opens the blob's file."""
        return (self._folder / "blobs" / key[-2:] / key).open("rb")

    def close(self) -> None:
        """Nothing is open between two files."""


class StoredArchive:
    """A backup in a TAR file, whose members are found by their offsets."""

    def __init__(self, file: Path) -> None:
        with contextlib.ExitStack() as stack:
            try:
                self._content = stack.enter_context(file.open("rb"))
                with tarfile.open(fileobj=self._content, mode="r:") as tar:
                    self._members = {member.name: (member.offset_data, member.size) for member in tar}
            except (OSError, tarfile.TarError) as error:
                raise InvalidInput(
                    f"{file} can't be read as a backup ({error}).", code="not-a-backup"
                ) from error
            self.manifest = Manifest.from_json(_manifest_of(lambda: self._member(MANIFEST).read(), file))
            stack.pop_all()

    def copy_file(self, name: str, target: Path) -> None:
        """Copies a member that isn't a blob."""
        with target.open("wb") as written:
            shutil.copyfileobj(self._member(name), written, _COPY_BYTES)

    def open_blob(self, key: str) -> AbstractContextManager[Readable]:
        """The blob's part of the file."""
        return contextlib.nullcontext(self._member(f"blobs/{key}"))

    def close(self) -> None:
        """Closes the file."""
        self._content.close()

    def _member(self, name: str) -> _Part:
        if name not in self._members:
            raise FileNotFoundError(name)
        return _Part(self._content, *self._members[name])


@contextlib.contextmanager
def open_source(path: Path) -> Iterator[BackupSource]:
    """The complete backup at `path`.

    Raises:
        InvalidInput: there is none, or it isn't complete.
    """
    with contextlib.closing(StoredFolder(path) if path.is_dir() else StoredArchive(path)) as source:
        yield source


def _manifest_of(read: Callable[[], bytes], path: Path) -> bytes:
    try:
        return read()
    except FileNotFoundError:
        raise InvalidInput(
            f"{path} isn't a complete backup: it has no {MANIFEST}. Run `aerotask backup` again, which continues it.",
            code="not-a-backup",
        ) from None


class _Part:
    """Part of a file, read from its beginning to its end."""

    def __init__(self, content: IO[bytes], begin: int, size: int) -> None:
        self._content, self._at, self._end = content, begin, begin + size

    def read(self, size: int = -1) -> bytes:
        left = self._end - self._at
        chunk = os.pread(self._content.fileno(), left if size < 0 else min(size, left), self._at)
        self._at += len(chunk)
        return chunk
