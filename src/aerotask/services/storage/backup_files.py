"""Files of a backup: a folder, or one TAR file, with the blobs, the database's dump and a manifest.

The manifest is written last: a backup without it isn't complete, and the next run continues it.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import orjson

from aerotask.domain.errors import InvalidInput

MANIFEST = "manifest.json"
DATABASE = "database.dump"
LISTING = "blobs.jsonl"
"""Each blob's key, hash and length, one JSON object per line."""
SECRET_KEY = "secret.key"  # noqa: S105  a file's name
FORMAT = 1

_TAR_BLOCK = 512
_COPY_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Manifest:
    """Facts about a complete backup."""

    version: str
    """The version of Aerotask that made it."""
    created_at: str
    installation_id: str
    blobs: int
    size_bytes: int
    """The length of all blobs together."""
    missing: tuple[str, ...] = ()
    """Blobs that rows name but the storage doesn't have."""
    damaged: tuple[str, ...] = ()
    """Blobs whose content doesn't have the hash that their rows give; they aren't in the backup."""
    format: int = FORMAT

    def to_json(self) -> bytes:
        """The content of the manifest's file."""
        return orjson.dumps(asdict(self), option=orjson.OPT_INDENT_2)

    @classmethod
    def from_json(cls, content: bytes) -> Manifest:
        """The manifest of a file.

        Raises:
            InvalidInput: it isn't the manifest of a backup that this version can read.
        """
        try:
            fields: dict[str, Any] = orjson.loads(content)
            found = cls(
                **{**fields, "missing": tuple(fields["missing"]), "damaged": tuple(fields["damaged"])}
            )
        except (ValueError, TypeError, KeyError) as error:
            raise InvalidInput(
                "This isn't the manifest of an Aerotask backup.", code="not-a-backup"
            ) from error
        if found.format != FORMAT:
            raise InvalidInput(
                f"The backup has format {found.format}, this version of Aerotask reads {FORMAT}: it was made by "
                f"version {found.version}; restore it with that version.",
                code="not-a-backup",
            )
        return found


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
        return copy_checked(source, target, sha256)

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


class BackupSource(Protocol):
    """A complete backup that is read."""

    manifest: Manifest

    def copy_file(self, name: str, target: Path) -> None:
        """Copies one of the backup's files that isn't a blob."""

    def copy_blob(self, key: str, target: Path, sha256: str) -> bool:
        """Copies a blob; False, with no target, if its content doesn't have that hash."""

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

    def copy_blob(self, key: str, target: Path, sha256: str) -> bool:
        """Copies a blob and checks its hash."""
        return copy_checked(self._folder / "blobs" / key[-2:] / key, target, sha256)

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

    def copy_blob(self, key: str, target: Path, sha256: str) -> bool:
        """Copies a blob and checks its hash."""
        return _write_checked(self._member(f"blobs/{key}"), target, sha256)

    def close(self) -> None:
        """Closes the file."""
        self._content.close()

    def _member(self, name: str) -> _Part:
        if name not in self._members:
            raise FileNotFoundError(name)
        return _Part(self._content, *self._members[name])


@contextlib.contextmanager
def open_target(path: Path) -> Iterator[BackupTarget]:
    """The target of a backup: a TAR file if the name ends in `.tar`, otherwise a folder.

    Raises:
        InvalidInput: the TAR file exists already.
    """
    with contextlib.closing(BackupArchive(path) if path.suffix == ".tar" else BackupFolder(path)) as target:
        yield target


@contextlib.contextmanager
def open_source(path: Path) -> Iterator[BackupSource]:
    """The complete backup at `path`.

    Raises:
        InvalidInput: there is none, or it isn't complete.
    """
    with contextlib.closing(StoredFolder(path) if path.is_dir() else StoredArchive(path)) as source:
        yield source


def copy_checked(source: Path, target: Path, sha256: str) -> bool:
    """Copies a file, which gets its name only if its content has that hash; False if it hasn't."""
    with source.open("rb") as content:
        return _write_checked(content, target, sha256)


def _write_checked(content: IO[bytes] | _Part, target: Path, sha256: str) -> bool:
    partial = target.with_name(f"{target.name}.partial")
    digest = hashlib.sha256()
    with partial.open("wb") as written:
        while chunk := content.read(_COPY_BYTES):
            digest.update(chunk)
            written.write(chunk)
        written.flush()
        os.fsync(written.fileno())
    if digest.hexdigest() != sha256:
        partial.unlink()
        return False
    partial.rename(target)
    return True


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


def _manifest_of(read: Callable[[], bytes], path: Path) -> bytes:
    try:
        return read()
    except FileNotFoundError:
        raise InvalidInput(
            f"{path} isn't a complete backup: it has no {MANIFEST}. Run `aerotask backup` again, which continues it.",
            code="not-a-backup",
        ) from None


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


class _Part:
    """Part of a file, read from its beginning to its end."""

    def __init__(self, content: IO[bytes], begin: int, size: int) -> None:
        self._content, self._at, self._end = content, begin, begin + size

    def read(self, size: int = -1) -> bytes:
        left = self._end - self._at
        chunk = os.pread(self._content.fileno(), left if size < 0 else min(size, left), self._at)
        self._at += len(chunk)
        return chunk


def listed_blobs(file: Path) -> Iterator[tuple[str, str]]:
    """Key and hash of each blob of a backup's listing."""
    with file.open("rb") as lines:
        for line in lines:
            blob = orjson.loads(line)
            yield blob["key"], blob["sha256"]
