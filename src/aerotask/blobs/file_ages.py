"""Ages of stored files, by the clock that stamps them: the clock of this machine may be hours off."""

from __future__ import annotations

import fcntl
import os
from datetime import timedelta
from pathlib import Path

from aerotask.domain.ids import new_id


def storage_now(folder: Path) -> float:
    """The present time in Unix seconds as the folder's file system has it: the time of a file just made there."""
    touched = folder / f".clock-{new_id()}"
    descriptor = os.open(touched, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        return os.fstat(descriptor).st_mtime
    finally:
        os.close(descriptor)
        touched.unlink(missing_ok=True)


def horizon_of(age: timedelta, folder: Path) -> float:
    """The time before which a file of the folder's file system must have been changed to be older than `age`."""
    return storage_now(folder) - age.total_seconds()


def changed_before(path: Path, horizon: float) -> bool:
    """True if the file or folder exists and was last changed before the horizon."""
    try:
        return path.stat().st_mtime < horizon
    except FileNotFoundError:
        return False


def is_locked(file: Path) -> bool:
    """True if a living process has locked the file; the kernel releases the lock when the process ends."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
