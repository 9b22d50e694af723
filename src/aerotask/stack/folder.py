"""Data folder of one stack: its lock, and places for Unix sockets and for files that other users must reach."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from aerotask.domain.errors import Conflict, InvalidInput, Unavailable

# Linux allows 107 bytes for the path of a socket; this is the longest name that we put into the folder.
_LONGEST_SOCKET_FOLDER = 107 - len("/pg/.s.PGSQL.5432")
_OUTSIDE = Path("/var/tmp")  # noqa: S108  new folders with random names
_PREFIX = "aerotask-"
_LINK = "outside-home"


class FolderInUse(Conflict):
    """Another process owns the folder."""

    default_code = "folder-in-use"


class OwnedFolder:
    """Folder locked by this process while the block lasts; the lock ends with the process, however it ends."""

    def __init__(self, folder: Path) -> None:
        self.path = folder.absolute()
        self._lock: int | None = None
        self._socket_folder: Path | None = None

    def __enter__(self) -> Self:
        self._lock = self._open()
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(self._lock, 64, 0).decode().strip() or "unknown"
            os.close(self._lock)
            raise FolderInUse(
                f"{self.path} is in use by the process with id {owner}; stop that process first, "
                "or choose another folder with --data."
            ) from None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)
        return self

    def _open(self) -> int:
        """The descriptor of the lock's file, in the folder that is made if it doesn't exist."""
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not os.access(self.path, os.R_OK | os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, "you may not write there, or it is read-only")
            return os.open(self.path / "owner.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except (FileExistsError, NotADirectoryError) as error:
            raise InvalidInput(
                f"The data folder {self.path} can't be used: there is a file in its place. Choose another with --data.",
                code="unusable-folder",
            ) from error
        except OSError as error:
            raise InvalidInput(
                f"The data folder {self.path} can't be used: {error.strerror}. Choose another with --data.",
                code="unusable-folder",
            ) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._socket_folder is not None:
            shutil.rmtree(self._socket_folder, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)

    def discard(self) -> None:
        """Remove the folder and the one outside it; only for a folder that is no longer used."""
        if self.outside is not None:
            shutil.rmtree(self.outside, ignore_errors=True)
        shutil.rmtree(self.path, ignore_errors=True)

    def socket_folder(self) -> Path:
        """A folder for sockets, private to this user, with a path short enough for them."""
        short = self.path / "run"
        if len(os.fsencode(short)) <= _LONGEST_SOCKET_FOLDER:
            short.mkdir(mode=0o700, exist_ok=True)
            return short
        if self._socket_folder is None:
            self._socket_folder = Path(tempfile.mkdtemp(prefix="aerotask-", dir="/tmp"))
        return self._socket_folder

    @property
    def outside(self) -> Path | None:
        """The folder under /var/tmp that belongs to this one, if there is one; a file in this folder holds its path."""
        link = self.path / _LINK
        if not link.is_file():
            return None
        named = Path(link.read_text(encoding="utf-8").strip())
        ours = named.parent == _OUTSIDE and named.name.startswith(_PREFIX)
        return named if ours and named.is_dir() and named.stat().st_uid == os.geteuid() else None

    def make_outside(self) -> Path:
        """A new folder under /var/tmp, for files that other users must reach; `make clean` removes it too."""
        self.remove_outside()
        made = _OUTSIDE / f"{_PREFIX}{secrets.token_hex(8)}"
        (self.path / _LINK).write_text(f"{made}\n", encoding="utf-8")
        made.mkdir(mode=0o711)
        made.chmod(0o711)
        return made

    def old_database(self) -> Path | None:
        """The database that earlier versions, run by root, kept outside the folder; None if there is none."""
        database = self.outside / "postgres" / "data" if self.outside else None
        return database if database and database.is_dir() else None

    def remove_outside(self) -> None:
        """Remove the folder under /var/tmp, unless it holds a database."""
        if self.old_database() is None:
            if self.outside is not None:
                shutil.rmtree(self.outside, ignore_errors=True)
            (self.path / _LINK).unlink(missing_ok=True)


@contextmanager
def explained_file_errors(data: Path) -> Iterator[None]:
    """Turn errors of the file system, such as a full or read-only disk, into a message.

    Raises:
        Unavailable: a file of the data folder can't be used.
    """
    try:
        yield
    except OSError as error:
        raise Unavailable(
            f"{error.filename or data}: {error.strerror or error}. Make room or allow writing there, or choose another "
            "data folder with --data."
        ) from error


def reachable_by_others(path: Path) -> bool:
    """True if any user can enter every parent folder and read `path`."""
    resolved = path.resolve()
    enterable = all(folder.stat().st_mode & stat.S_IXOTH for folder in resolved.parents)
    return enterable and bool(resolved.stat().st_mode & stat.S_IROTH)
