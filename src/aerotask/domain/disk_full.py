"""Recognition of errors that mean a full disk."""

from __future__ import annotations

import errno
import shutil
import sqlite3
from pathlib import Path

FULL_DISK_BYTES = 16 * 1024 * 1024
"""With less than this free, an unexplained error is taken for a full disk: GDAL, for example, doesn't give the reason."""

_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def is_disk_full(error: BaseException) -> bool:
    """True if a file couldn't be written for want of space, or because of a quota or a limit of the file system."""
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
    return isinstance(error, OSError) and error.errno in _DISK_FULL


def has_hardly_any_space(folder: Path) -> bool:
    """True if the folder's disk has so little space that a write may have failed for want of it."""
    return shutil.disk_usage(folder).free < FULL_DISK_BYTES
