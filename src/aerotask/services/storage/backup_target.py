"""Targets of a backup: a folder, or one TAR file; what an interrupted run has stored there is kept."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Protocol

from aerotask.blobs.blob_check import write_checked
from aerotask.domain.errors import InvalidInput
from aerotask.services.storage.backup_files import MANIFEST, Manifest

_TAR_BLOCK = 512


class BackupTarget(Protocol):
    """Place that a backup is written to."""

    def stored_keys(self) -> set[str]:
        """Blobs that an earlier run has already stored here, with checked hashes."""

    def add_blob(self, key: str, source: Path, sha256: str) -> bool:
        """Copies a blob; False, with nothing stored, if its content doesn't have that hash."""

    def add_file(self, name: str, source: Path) -> None:
        """Copies another file."""

    def complete(self, manifest: Manifest, keys: set[str]) -> None:
        """Ends the backup with its manifest; blobs other than `keys`, of earlier runs, may be dropped."""

    def close(self) -> None:
        """Closes the backup, complete or not."""


class BackupFolder:
    """A backup as a folder; a further run into it copies only what is new."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._blobs = folder / "blobs"
        self._blobs.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / MANIFEST).unlink(missing_ok=True)

    def stored_keys(self) -> set[str]:
        """The blobs in the folder: a blob gets its name once its hash has been checked."""
        return {file.name for file in self._blobs.glob("*/*") if not file.name.endswith(".partial")}

    def add_blob(self, key: str, source: Path, sha256: str) -> bool:
        """Copies a blob under a temporary name, and names it once its hash has been checked."""
        target = self._blobs / key[-2:] / key
        target.parent.mkdir(mode=0o700, exist_ok=True)
        partial = target.with_name(f"{key}.partial")
        with source.open("rb") as content:
            if not write_checked(content, partial, sha256=sha256):
                return False
        partial.rename(target)
        return True

    def add_file(self, name: str, source: Path) -> None:
        """Copies another file, readable by its owner only."""
        target = self._folder / name
        target.unlink(missing_ok=True)
        shutil.copyfile(source, target)
        target.chmod(0o600)

    def complete(self, manifest: Manifest, keys: set[str]) -> None:
        """Removes blobs that are no longer referenced, and writes the manifest."""
        for file in list(self._blobs.glob("*/*")):
            if file.name not in keys:
                file.unlink()
        written = self._folder / f"{MANIFEST}.partial"
        written.write_bytes(manifest.to_json())
        os.sync()
        written.rename(self._folder / MANIFEST)

    def close(self) -> None:
        """Nothing is open between two files."""


class BackupArchive:
    """A backup as one TAR file, which is written as FILE.partial and renamed at its end."""

    def __init__(self, file: Path) -> None:
        if file.exists():
            raise InvalidInput(f"{file} exists already; choose another name.", code="backup-exists")
        file.parent.mkdir(parents=True, exist_ok=True)
        self._file = file
        self._partial = file.with_name(f"{file.name}.partial")
        descriptor = os.open(self._partial, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._content = os.fdopen(descriptor, "r+b")
        self._stored, end = _complete_blobs(self._content)
        self._truncate(end)
        self._tar = tarfile.open(fileobj=self._content, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115
        self._tar.offset = end

    def stored_keys(self) -> set[str]:
        """The blobs that are whole in the file of a run that was interrupted."""
        return set(self._stored)

    def add_blob(self, key: str, source: Path, sha256: str) -> bool:
        """Appends a blob, and cuts it off again if its hash is wrong."""
        begin = self._tar.offset
        with source.open("rb") as content:
            hashing = _HashingReader(content)
            self._tar.addfile(self._member(f"blobs/{key}", os.fstat(content.fileno()).st_size), hashing)
        if hashing.hexdigest() == sha256:
            return True
        self._truncate(begin)
        self._tar.offset = begin
        return False

    def add_file(self, name: str, source: Path) -> None:
        """Appends another file."""
        with source.open("rb") as content:
            self._tar.addfile(self._member(name, os.fstat(content.fileno()).st_size), content)

    def complete(self, manifest: Manifest, keys: set[str]) -> None:  # noqa: ARG002  a TAR file can't be thinned
        """Appends the manifest and gives the file its name; further blobs of an interrupted run stay in it."""
        content = manifest.to_json()
        self._tar.addfile(self._member(MANIFEST, len(content)), io.BytesIO(content))
        self._tar.close()
        self._content.flush()
        os.fsync(self._content.fileno())
        self._partial.rename(self._file)

    def close(self) -> None:
        """Closes the file; what is whole in it serves the next run."""
        self._content.close()

    def _truncate(self, size: int) -> None:
        self._content.flush()
        self._content.truncate(size)
        self._content.seek(size)

    @staticmethod
    def _member(name: str, size: int) -> tarfile.TarInfo:
        member = tarfile.TarInfo(name)
        member.size, member.mode = size, 0o600
        return member


@contextlib.contextmanager
def open_target(path: Path) -> Iterator[BackupTarget]:
    """The target of a backup: a TAR file if the name ends in `.tar`, otherwise a folder.

    Raises:
        InvalidInput: the TAR file exists already.
    """
    with contextlib.closing(BackupArchive(path) if path.suffix == ".tar" else BackupFolder(path)) as target:
        yield target


def _complete_blobs(content: IO[bytes]) -> tuple[set[str], int]:
    """The blobs that are whole in an interrupted TAR file, up to the first other member, and their end."""
    size, end, keys = os.fstat(content.fileno()).st_size, 0, set[str]()
    if not size:
        return keys, end
    with contextlib.suppress(tarfile.TarError), tarfile.open(fileobj=content, mode="r:") as tar:
        for member in tar:
            after = member.offset_data + -(-member.size // _TAR_BLOCK) * _TAR_BLOCK
            if after > size or not member.name.startswith("blobs/"):
                break
            keys.add(member.name.removeprefix("blobs/"))
            end = after
    return keys, end


class _HashingReader:
    """Reader that hashes what is read through it."""

    def __init__(self, content: IO[bytes]) -> None:
        self._content = content
        self._digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        chunk = self._content.read(size)
        self._digest.update(chunk)
        return chunk

    def hexdigest(self) -> str:
        return self._digest.hexdigest()
