"""Batch ingest of finished files into the local blob store, with one sync of the disk for all."""

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
"""Up to this number, files are synced one by one: syncfs would also wait for all other pending writes."""
HASHING_THREADS = 4
_BATCH = 64


@dataclass(frozen=True, slots=True)
class _SealedFile:
    """Read-only file with a known hash."""

    path: Path
    sha256: str
    size_bytes: int


def ingest_all(files: Sequence[Path], *, path_of: Callable[[str], Path], copies: Path) -> list[Blob]:
    """Turn each file into a new blob at `path_of` its key; all are durable on return.

    A file with other hard links is first copied into the folder `copies`.

    Raises:
        OSError: one is no regular file, or the disk is full. Blobs stored before that are removed by the maintenance,
            since no row references them.
    """
    with ThreadPoolExecutor(HASHING_THREADS) as pool:
        batches = [files[begin : begin + _BATCH] for begin in range(0, len(files), _BATCH)]
        seal = partial(_seal_all, copies=copies)
        sealed = [file for batch in pool.map(seal, batches) for file in batch]
    _sync_contents([file.path for file in sealed])
    failpoint("blob-synced")
    blobs = [Blob(str(new_id()), file.sha256, file.size_bytes) for file in sealed]
    targets = [path_of(blob.key) for blob in blobs]
    folders = sorted({target.parent for target in targets})
    for folder in folders:
        folder.mkdir(mode=0o700, exist_ok=True)
    for file, target in zip(sealed, targets, strict=True):
        # The blob's age starts now: with the time of writing, maintenance could remove it as an old orphan.
        os.utime(file.path)
        file.path.rename(target)
    for folder in folders:
        sync_folder(folder)
    if blobs:
        failpoint("blob-renamed")
    return blobs


def make_read_only(descriptor: int) -> None:
    """Make the file read-only and ours, also if a child with an account of its own wrote it."""
    if os.fstat(descriptor).st_uid != os.geteuid():
        os.fchown(descriptor, os.geteuid(), os.getegid())
    os.fchmod(descriptor, 0o444)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable (fsync of the folder)."""
    with _opened(folder, os.O_DIRECTORY) as descriptor:
        os.fsync(descriptor)


def _seal_all(files: Sequence[Path], *, copies: Path) -> list[_SealedFile]:
    return [_seal(file, copies) for file in files]


def _seal(path: Path, copies: Path) -> _SealedFile:
    with _opened(path, os.O_NOFOLLOW) as descriptor:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "only regular files can be stored")
        if status.st_nlink == 1:
            with os.fdopen(descriptor, "rb", closefd=False) as content:
                sha256 = hashlib.file_digest(content, "sha256").hexdigest()
            make_read_only(descriptor)
            return _SealedFile(path, sha256, status.st_size)
    # Another hard link could still be written to after the hash was computed.
    copied = copies / str(new_id())
    shutil.copyfile(path, copied)
    return _seal(copied, copies)


def _sync_contents(files: Sequence[Path]) -> None:
    if len(files) > FEW and sys.platform == "linux":
        with _opened(files[0]) as descriptor:
            if ctypes.CDLL(None, use_errno=True).syncfs(descriptor):
                raise OSError(ctypes.get_errno(), "syncing the storage failed")
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
