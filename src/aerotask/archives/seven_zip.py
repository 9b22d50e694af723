"""7z extraction through py7zr, which gets our writers instead of a target path."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath

import py7zr
from py7zr.exceptions import PasswordRequired, UnsupportedCompressionMethodError
from py7zr.io import Py7zIO, WriterFactory
from py7zr.py7zr import ArchiveFile

from aerotask.archives import errors
from aerotask.archives.extract_dir import open_new
from aerotask.archives.extract_request import ExtractRequest
from aerotask.domain.errors import AerotaskError

_EPOCH_S = 11_644_473_600
"""Seconds from 1601 to 1970."""


def extract_7z(request: ExtractRequest) -> None:
    """Extract the wanted files of a 7z file.

    Raises:
        InvalidInput: the archive is damaged, hostile or over a limit.
    """
    # py7zr gets an open file: given a name, it extracts in threads that can't be stopped.
    with request.archive.open("rb") as opened, _py7zr_errors(), py7zr.SevenZipFile(opened) as archive:
        if archive.needs_password():
            raise errors.encrypted()
        request.member_filter.check_count(len(archive.files))
        wanted = _choose(archive, request)
        request.announce(files=len(wanted), size_bytes=sum(member.size_bytes for member in wanted.values()))
        writers = _Writers(wanted, request)
        try:
            archive.extract(targets=[member.name for member in wanted.values()], factory=writers)
        finally:
            writers.close()
        if len(request.extract_dir.extracted) != len(wanted):
            raise errors.damaged("members are missing")


@dataclass(frozen=True, slots=True)
class _SevenZipMember:
    """A member to extract: its name in the archive, its entry path and its declared size."""

    name: str
    path: str
    size_bytes: int
    mtime: int | None


def _choose(archive: py7zr.SevenZipFile, request: ExtractRequest) -> dict[str, _SevenZipMember]:
    """The wanted files, by the key under which py7zr requests their writers."""
    wanted: dict[str, _SevenZipMember] = {}
    total_bytes = 0
    for member in archive.files:
        if member.is_symlink or member.is_junction or member.is_socket:
            raise errors.special_file(member.filename, "link")
        name = _portable_name(member)
        if member.is_directory:
            request.member_filter.add_folder(name, _mtime(member))
            continue
        if not member.is_file:
            raise errors.special_file(member.filename, "special file")
        size_bytes = int(member.uncompressed or 0)
        total_bytes += size_bytes
        request.expansion.check(total_bytes)
        path = request.member_filter.add_file(name)
        if path is not None and request.is_wanted(path):
            key = PurePosixPath(member.filename).as_posix()
            wanted[key] = _SevenZipMember(member.filename, path, size_bytes, _mtime(member))
    return wanted


def _portable_name(member: ArchiveFile) -> str:
    """Name with slashes between folders: unless it is from Unix, a backslash separates folders, too."""
    is_unix = member.posix_mode is not None
    return member.filename if is_unix else member.filename.replace("\\", "/")


def _mtime(member: ArchiveFile) -> int | None:
    """Modification time in Unix seconds, from the 100 ns since 1601 that 7z has."""
    written = member.lastwritetime
    return None if written is None else int(written) // 10_000_000 - _EPOCH_S


class _Writers(WriterFactory):
    """Factory for the writer of one member at a time."""

    def __init__(self, wanted: dict[str, _SevenZipMember], request: ExtractRequest) -> None:
        self._wanted = wanted
        self._request = request
        self._last: _Writer | None = None

    def create(self, filename: str) -> Py7zIO:
        """The writer for the member with that key."""
        member = self._wanted.get(filename)
        if member is None:
            raise errors.damaged("a member changed its name")
        self.close()
        self._last = _Writer(member, self._request)
        return self._last

    def close(self) -> None:
        """Close the file of the last writer, complete or not."""
        if self._last is not None:
            self._last.close_file()


class _Writer(Py7zIO):
    """Writer for the content of one member."""

    def __init__(self, member: _SevenZipMember, request: ExtractRequest) -> None:
        self._member = member
        self._request = request
        self._file = request.extract_dir.new_path()
        self._descriptor: int | None = open_new(self._file)
        self._size_bytes = 0

    def write(self, s: bytes | bytearray) -> int:
        """Write part of the content."""
        self._size_bytes += len(s)
        if self._size_bytes > self._member.size_bytes:
            raise errors.damaged(f"{self._member.path} is longer than it declares")
        self._request.expansion.add(len(s))
        if self._descriptor is None:
            raise errors.damaged("a member has data after its end")
        self._request.extract_dir.write(self._descriptor, s)
        self._request.report_extracted()
        return len(s)

    def read(self, size: int | None = None) -> bytes:  # noqa: ARG002  the interface's
        """Reading is not supported."""
        return b""

    def seek(self, offset: int, whence: int = 0) -> int:  # noqa: ARG002  the interface's
        """Seeking is not supported."""
        return 0

    def seekable(self) -> bool:
        """Always False."""
        return False

    def flush(self) -> None:
        """No-op: writes are unbuffered."""

    def size(self) -> int:
        """Number of bytes written so far."""
        return self._size_bytes

    def close(self) -> None:
        """Complete the member."""
        if self._descriptor is None:
            return
        self.close_file()
        if self._size_bytes != self._member.size_bytes:
            raise errors.damaged(f"{self._member.path} is shorter than it declares")
        member = self._member
        self._request.extract_dir.add(member.path, self._file, self._size_bytes, member.mtime)

    def close_file(self) -> None:
        """Close the file without completing the member."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


@contextmanager
def _py7zr_errors() -> Iterator[None]:
    """Translate every exception of py7zr to `InvalidInput`."""
    try:
        yield
    except (AerotaskError, MemoryError):
        raise
    except PasswordRequired as error:
        raise errors.encrypted() from error
    except UnsupportedCompressionMethodError as error:
        raise errors.unsupported("The archive uses an unsupported 7z compression method.") from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise errors.damaged("compressed data is invalid") from error
    # An edge: py7zr fails with arbitrary exceptions on bytes that anyone may have crafted.
    except Exception as error:
        raise errors.damaged("it is not a valid 7z file") from error
