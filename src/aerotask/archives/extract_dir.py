"""Extraction directory: members are written to numbered files, so no name from an archive reaches the file system."""

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
    """An extracted member: the path of its entry, and the file with its content."""

    path: str
    file: Path
    size_bytes: int
    mtime: int | None = None
    """Modification time in Unix seconds, if the archive has one."""


@dataclass(slots=True)
class ExtractDir:
    """Folder for extracted files, bounded by a space budget."""

    folder: Path
    budget: SpaceBudget
    _by_path: dict[str, ExtractedFile] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def extracted(self) -> list[ExtractedFile]:
        """The recorded files, in the order in which their paths came."""
        return list(self._by_path.values())

    def find(self, path: str) -> ExtractedFile | None:
        """The recorded file of that path."""
        return self._by_path.get(path)

    def new_path(self) -> Path:
        """An unused file name, in a folder that exists."""
        number = next(self._numbers)
        shard = self.folder / str(number // FILES_PER_FOLDER)
        if number % FILES_PER_FOLDER == 0:
            shard.mkdir(mode=0o700, parents=True)
        return shard / str(number)

    def write(self, descriptor: int, data: bytes | bytearray | memoryview) -> None:
        """Write part of a member's content.

        Raises:
            TaskFailed: the space budget is exhausted.
        """
        self.budget.consume(len(data))
        write_all(descriptor, data)

    def add(self, path: str, file: Path, size_bytes: int, mtime: int | None = None) -> None:
        """Record a member whose content is complete; an earlier one of the same path is removed."""
        replaced = self._by_path.get(path)
        if replaced is not None:
            replaced.file.unlink()
            self.budget.release(replaced.size_bytes)
        self._by_path[path] = ExtractedFile(path, file, size_bytes, mtime)
        failpoint("member-extracted")


def open_new(file: Path) -> int:
    """Create a file and return its descriptor; fails if the file exists."""
    return os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


@contextmanager
def new_file(file: Path) -> Iterator[int]:
    """Descriptor of a newly created file, closed at the end of the block."""
    descriptor = open_new(file)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: bytes | bytearray | memoryview) -> None:
    """Write all bytes, repeating short writes."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
