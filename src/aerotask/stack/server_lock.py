"""Lock that a server and all its processes hold, so that no second one starts on the same data."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from aerotask.stack.waiting import await_condition


@contextmanager
def server_lock(file: Path, *, still_running: Callable[[], bool], timeout_s: float) -> Iterator[int]:
    """Wait for the previous server to end; yields the descriptor of its lock, which the new server has to inherit.

    The kernel keeps the lock while any process has the inherited descriptor, and frees it with the last one. That holds
    where process ids mislead: another program may have that of a server that ended, and a killed server may have left
    processes that still write. `still_running` finds servers that were started without the lock.

    Raises:
        TimeoutError: the previous server is still running after `timeout_s`.
    """
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not await_condition(lambda: _locks(descriptor) and not still_running(), timeout_s=timeout_s):
            raise TimeoutError(f"the lock of {file} is still held")
        yield descriptor
    finally:
        os.close(descriptor)


def works_in(process_id: int, folder: Path) -> bool:
    """True if the process is running with the folder as its working directory; False if that can't be seen."""
    try:
        return Path(f"/proc/{process_id}/cwd").samefile(folder)
    except OSError:
        return False


def _locks(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
