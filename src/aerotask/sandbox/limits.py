"""Resource limits of a child process: priority, open files, file size and memory."""

from __future__ import annotations

import os
import resource
import sys

NICE = 5
STATUS_BYTES = 16 * 1024
"""Longer than the kernel's status of a process."""


def limit_resources(*, memory_bytes: int, open_files: int, max_file_bytes: int | None = None) -> None:
    """Bound what this process can take from its neighbours, for good."""
    os.nice(NICE)
    lower(resource.RLIMIT_CORE, 0)
    lower(resource.RLIMIT_NOFILE, open_files)
    if max_file_bytes is not None:
        lower(resource.RLIMIT_FSIZE, max_file_bytes)
    limit_memory(memory_bytes)


def lower(limit: int, bound: int) -> None:
    """Set a limit of `resource`, soft and hard, to at most its present hard value."""
    _, hard = resource.getrlimit(limit)
    lowered = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
    resource.setrlimit(limit, (lowered, lowered))


def limit_memory(memory_bytes: int) -> None:
    """Bound the private writable mappings beyond what the fork shares (RLIMIT_DATA, Linux 4.7).

    Address space (RLIMIT_AS) would also count what threads' arenas merely reserve.
    """
    if sys.platform == "linux":
        lower(resource.RLIMIT_DATA, _data_bytes() + memory_bytes)


def _data_bytes() -> int:
    # Not by `open`, whose machinery would write to, and so copy, hundreds of pages that the fork shares.
    status = os.open("/proc/self/status", os.O_RDONLY)
    try:
        _, _, behind = os.read(status, STATUS_BYTES).partition(b"VmData:")
    finally:
        os.close(status)
    return int(behind.split(maxsplit=1)[0]) * 1024 if behind else 0
