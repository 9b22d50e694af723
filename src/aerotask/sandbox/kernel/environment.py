"""Secrets of this process's environment, which are taken out of it once they have been read.

Programs that are started later don't inherit them, and other processes don't find them in /proc.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Collection
from pathlib import Path

# Positions among the fields of /proc/PID/stat behind the program's name, see proc_pid_stat(5).
_ENV_START, _ENV_END = 47, 48


def take_variables(names: Collection[str]) -> dict[str, str]:
    """Remove these variables, in either case, and return those that were set."""
    wanted = {name.upper() for name in names}
    taken = {name: os.environ.pop(name) for name in list(os.environ) if name.upper() in wanted}
    if taken and sys.platform == "linux":
        _erase(taken)
    return taken


def _erase(names: Collection[str]) -> None:
    """Overwrite the values in the memory that the kernel shows as /proc/PID/environ; nothing refers to them any more."""
    fields = Path("/proc/self/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    start, end = int(fields[_ENV_START]), int(fields[_ENV_END])
    if not 0 < start < end:
        return
    block = ctypes.string_at(start, end - start)
    position = 0
    for entry in block.split(b"\0"):
        name, equals, value = entry.partition(b"=")
        if equals and os.fsdecode(name) in names:
            ctypes.memset(start + position + len(name) + 1, 0, len(value))
        position += len(entry) + 1
