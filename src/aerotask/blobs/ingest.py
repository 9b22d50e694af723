"""Takes many finished files into the store at once: the work of one, but the disk is waited for once for all."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from aerotask.blobs.blob_store import Blob
from aerotask.domain.ids import new_id
from aerotask.failpoints import failpoint

FEW = 16
"""So few files are quicker synced one by one than with everything else that the disk has still to write."""
HASHING_THREADS = 4
_SHARE = 64


@dataclass(frozen=True, slots=True)
class _Sealed:
    """A file whose content is known and may not change any more."""

    path: Path
    sha256: str
    size_bytes: int


def adopt_all(files: Sequence[Path], *, place: Callable[[str], Path], copies: Path) -> list[Blob]:
    """Make each file the content of a new blob, whose file goes where `place` says; all are durable in the end.

    A file that somebody else has a name for is copied into the folder `copies` first.

    Raises:
        OSError: one is no regular file, or the disk can't take it. What was stored before stays, without a name
            in any row, and the sweep removes it.
    """
    with ThreadPoolExecutor(HASHING_THREADS) as pool:
        shares = [files[begin : begin + _SHARE] for begin in range(0, len(files), _SHARE)]
        seal = partial(_seal_all, copies=copies)
        sealed = [file for share in pool.map(seal, shares) for file in share]
    _sync_contents([file.path for file in sealed])
    failpoint("blob-synced")
    blobs = [Blob(str(new_id()), file.sha256, file.size_bytes) for file in sealed]
    targets = [place(blob.key) for blob in blobs]
    folders = sorted({target.parent for target in targets})
    for folder in folders:
        folder.mkdir(mode=0o700, exist_ok=True)
    for file, target in zip(sealed, targets, strict=True):
        # The age that the sweep goes by counts from now, not from when the content was written.
        os.utime(file.path)
        file.path.rename(target)
    for folder in folders:
        sync_folder(folder)
    if blobs:
        failpoint("blob-renamed")
    return blobs


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    with _opened(folder, os.O_DIRECTORY) as descriptor:
        os.fsync(descriptor)


def _seal_all(files: Sequence[Path], *, copies: Path) -> list[_Sealed]:
    return [_seal(file, copies) for file in files]


def _seal(path: Path, copies: Path) -> _Sealed:
    with _opened(path, os.O_NOFOLLOW) as descriptor:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "only regular files can be stored")
        if status.st_nlink == 1:
            with os.fdopen(descriptor, "rb", closefd=False) as content:
                sha256 = hashlib.file_digest(content, "sha256").hexdigest()
            os.fchmod(descriptor, 0o444)
            return _Sealed(path, sha256, status.st_size)
    copied = copies / str(new_id())
    shutil.copyfile(path, copied)
    return _seal(copied, copies)


def _sync_contents(files: Sequence[Path]) -> None:
    if len(files) > FEW and sys.platform == "linux":
        with _opened(files[0]) as descriptor:
            if ctypes.CDLL(None, use_errno=True).syncfs(descriptor):
                raise OSError(ctypes.get_errno(), "the storage could not be synced")
        return
    for file in files:
        with _opened(file) as descriptor:
            os.fsync(descriptor)


@contextmanager
def _opened(path: Path, flags: int = 0) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
