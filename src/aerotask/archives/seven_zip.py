"""Extracts a 7z file through py7zr, which gets writers of ours and never a path."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import py7zr
from py7zr.exceptions import PasswordRequired, UnsupportedCompressionMethodError
from py7zr.io import Py7zIO, WriterFactory

from aerotask.archives import errors
from aerotask.archives.extract_dir import ExtractDir, open_new
from aerotask.archives.member_filter import ExpansionLimit, MemberFilter
from aerotask.archives.promise import AnnouncedTotals
from aerotask.domain.errors import AerotaskError


def extract_7z(  # noqa: PLR0913  what comes in, what may come out, and who is told
    archive: Path,
    *,
    intake: MemberFilter,
    gauge: ExpansionLimit,
    outlet: ExtractDir,
    is_wanted: Callable[[str], bool],
    on_promise: Callable[[AnnouncedTotals], None],
    on_progress: Callable[[int], None],
) -> None:
    """Extract the wanted files of a 7z file into the outlet.

    Raises:
        InvalidInput: the archive is damaged, hostile or over a limit.
    """
    # An open file and not its name: with a name, py7zr unpacks in threads that nothing stops.
    with archive.open("rb") as opened, _foreign_parser(), py7zr.SevenZipFile(opened) as packed:
        if packed.needs_password():
            raise errors.encrypted()
        intake.expect(len(packed.files))
        wanted = _choose(packed, intake, gauge, is_wanted)
        on_promise(AnnouncedTotals(len(wanted), sum(item.size_bytes for item in wanted.values())))
        writers = _Writers(wanted, gauge, outlet, on_progress)
        try:
            packed.extract(targets=[item.name for item in wanted.values()], factory=writers)
        finally:
            writers.close()
        if len(outlet.extracted) != len(wanted):
            raise errors.damaged("members are missing")


@dataclass(frozen=True, slots=True)
class _SevenZipMember:
    """A member to extract: its name in the archive, the entry's path and the length that is declared."""

    name: str
    path: str
    size_bytes: int


def _choose(
    packed: py7zr.SevenZipFile, intake: MemberFilter, gauge: ExpansionLimit, is_wanted: Callable[[str], bool]
) -> dict[str, _SevenZipMember]:
    """The wanted files by the key under which py7zr will ask for their writers."""
    wanted: dict[str, _SevenZipMember] = {}
    total = 0
    for member in packed.files:
        if member.is_symlink or member.is_junction or member.is_socket:
            raise errors.special(member.filename, "link")
        if member.is_directory:
            intake.folder(member.filename)
            continue
        if not member.is_file:
            raise errors.special(member.filename, "special file")
        size_bytes = int(member.uncompressed or 0)
        total += size_bytes
        gauge.expect(total)
        path = intake.file(member.filename)
        if path is not None and is_wanted(path):
            key = PurePosixPath(member.filename).as_posix()
            wanted[key] = _SevenZipMember(member.filename, path, size_bytes)
    return wanted


class _Writers(WriterFactory):
    """Makes the writer of one member after the other."""

    def __init__(
        self,
        wanted: dict[str, _SevenZipMember],
        gauge: ExpansionLimit,
        outlet: ExtractDir,
        on_progress: Callable[[int], None],
    ) -> None:
        self._wanted = wanted
        self._gauge = gauge
        self._outlet = outlet
        self._on_progress = on_progress
        self._last: _Writer | None = None

    def create(self, filename: str) -> Py7zIO:
        """The writer of the member that py7zr calls so."""
        item = self._wanted.get(filename)
        if item is None:
            raise errors.damaged("a member changed its name")
        self.close()
        self._last = _Writer(item, self._gauge, self._outlet, self._on_progress)
        return self._last

    def close(self) -> None:
        """Close the last writer, whatever became of it."""
        if self._last is not None:
            self._last.drop()


class _Writer(Py7zIO):
    """Takes the content of one member."""

    def __init__(
        self,
        item: _SevenZipMember,
        gauge: ExpansionLimit,
        outlet: ExtractDir,
        on_progress: Callable[[int], None],
    ) -> None:
        self._item = item
        self._gauge = gauge
        self._outlet = outlet
        self._on_progress = on_progress
        self._file = outlet.reserve()
        self._descriptor: int | None = open_new(self._file)
        self._size_bytes = 0

    def write(self, s: bytes | bytearray) -> int:
        """Take some of the content."""
        self._size_bytes += len(s)
        if self._size_bytes > self._item.size_bytes:
            raise errors.damaged(f"{self._item.path} is longer than it declares")
        self._gauge.add(len(s))
        if self._descriptor is None:
            raise errors.damaged("a member goes on after its end")
        self._outlet.write(self._descriptor, s)
        self._on_progress(self._gauge.total)
        return len(s)

    def read(self, size: int | None = None) -> bytes:  # noqa: ARG002  the interface's
        """Nothing is read back."""
        return b""

    def seek(self, offset: int, whence: int = 0) -> int:  # noqa: ARG002  the interface's
        """Nothing is read back."""
        return 0

    def seekable(self) -> bool:
        """No."""
        return False

    def flush(self) -> None:
        """Nothing is held back."""

    def size(self) -> int:
        """How much came so far."""
        return self._size_bytes

    def close(self) -> None:
        """The content is complete."""
        if self._descriptor is None:
            return
        self.drop()
        if self._size_bytes != self._item.size_bytes:
            raise errors.damaged(f"{self._item.path} is shorter than it declares")
        self._outlet.add(self._item.path, self._file, self._size_bytes)

    def drop(self) -> None:
        """Close the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


@contextmanager
def _foreign_parser() -> Iterator[None]:
    """Tell of whatever py7zr stumbles over in one way."""
    try:
        yield
    except (AerotaskError, MemoryError):
        raise
    except PasswordRequired as error:
        raise errors.encrypted() from error
    except UnsupportedCompressionMethodError as error:
        raise errors.unsupported(
            "The archive is packed by a method of 7z that can't be read here."
        ) from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise errors.damaged("compressed data makes no sense") from error
    # An edge: a parser of bytes that anybody may have made, which fails on them in any way it likes.
    except Exception as error:
        raise errors.damaged("it makes no sense as 7z") from error
