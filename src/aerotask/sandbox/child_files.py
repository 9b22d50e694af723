"""Files of a child that still runs, which may be anybody's code: copied, because the child could go on writing to them."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from aerotask.domain.errors import TaskFailed

_CHUNK_BYTES = 1024 * 1024
_NO_SUCH_FILE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO}


def take_file(
    file: Path,
    target: Path,
    *,
    workdir: Path,
    require_space: Callable[[int], None],
    stopped: Callable[[], bool],
) -> str | None:
    """Copy a file of the child's work folder to `target`, remove it there, and return the copy's SHA-256 in hex.

    None if it was stopped before the end.

    Raises:
        TaskFailed: it is no regular file within the folder (`bad-output`).
        OSError: the disk is full or fails.
    """
    with _opened_folder(file, workdir) as folder:
        descriptor = _open_regular(file.name, folder)
        with os.fdopen(descriptor, "rb") as content, target.open("xb") as copy:
            left = os.fstat(descriptor).st_size
            require_space(left)
            digest = hashlib.sha256()
            while left and (chunk := content.read(min(left, _CHUNK_BYTES))):
                if stopped():
                    return None
                digest.update(chunk)
                copy.write(chunk)
                left -= len(chunk)
        with suppress(FileNotFoundError):  # the child may have removed it
            os.unlink(file.name, dir_fd=folder)
    return digest.hexdigest()


@contextmanager
def _opened_folder(file: Path, workdir: Path) -> Iterator[int]:
    """The folder of the file, opened from the work folder on without following a symbolic link."""
    root = workdir.resolve()
    if not file.is_relative_to(root) or ".." in file.parts:
        raise _bad_output()
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in file.relative_to(root).parts[:-1]:
            outer, folder = folder, _open(name, folder, os.O_DIRECTORY)
            os.close(outer)
        yield folder
    finally:
        os.close(folder)


def _open_regular(name: str, folder: int) -> int:
    # Without O_NONBLOCK, opening a named pipe would wait for its writer.
    descriptor = _open(name, folder, os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _bad_output()
    return descriptor


def _open(name: str, folder: int, flags: int) -> int:
    try:
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | flags, dir_fd=folder)
    except OSError as error:
        if error.errno not in _NO_SUCH_FILE:
            raise
        raise _bad_output() from error


def _bad_output() -> TaskFailed:
    return TaskFailed(
        "The tool declared a derivative that is not a regular file in its work folder.", code="bad-output"
    )
