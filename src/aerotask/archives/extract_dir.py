"""Where extracted contents lie until they are declared: numbered files, so that no name of an archive's is used."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aerotask.archives.space_budget import SpaceBudget
from aerotask.failpoints import failpoint

FILES_PER_FOLDER = 1000


@dataclass(frozen=True, slots=True)
class ExtractedFile:
    """A content that came out of an archive: the path of the entry that it becomes, and the file that holds it."""

    path: str
    file: Path
    size_bytes: int


@dataclass(slots=True)
class ExtractDir:
    """A folder that takes extracted contents, as long as there is room."""

    folder: Path
    room: SpaceBudget
    extracted: list[ExtractedFile] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def reserve(self) -> Path:
        """The name of a file to write a content to, in a folder that exists."""
        number = next(self._numbers)
        shard = self.folder / str(number // FILES_PER_FOLDER)
        if number % FILES_PER_FOLDER == 0:
            shard.mkdir(mode=0o700, parents=True)
        return shard / str(number)

    def write(self, descriptor: int, data: bytes | bytearray | memoryview) -> None:
        """Write some of a content.

        Raises:
            TaskFailed: there is no room for it.
        """
        self.room.take(len(data))
        write_all(descriptor, data)

    def add(self, path: str, file: Path, size_bytes: int) -> None:
        """Note a content that is complete."""
        self.extracted.append(ExtractedFile(path, file, size_bytes))
        failpoint("member-extracted")


def open_new(file: Path) -> int:
    """The descriptor of a file that wasn't there."""
    return os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


@contextmanager
def new_file(file: Path) -> Iterator[int]:
    """As `open_new`, closed with the block."""
    descriptor = open_new(file)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: bytes | bytearray | memoryview) -> None:
    """Write all of the bytes."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
