"""Resource limits of a child process: priority, processes, open files, file size and memory."""

from __future__ import annotations

import os
import resource
import sys

NICE = 5
MAX_MORE_PROCESSES = 1024
"""Processes and threads that a child's user may start beyond those that the machine runs already."""
STATUS_BYTES = 16 * 1024
"""Longer than the kernel's status of a process."""


def limit_resources(*, memory_bytes: int, open_files: int, max_file_bytes: int | None = None) -> None:
    """Bound what this process can take from its neighbours, for good."""
    os.nice(NICE)
    lower(resource.RLIMIT_CORE, 0)
    lower(resource.RLIMIT_NOFILE, open_files)
    limit_processes()
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


def limit_processes() -> None:
    """Bound the number of processes and threads (RLIMIT_NPROC); the kernel exempts root.

    The kernel counts all of the user's, also those that aren't ours; counting every one of the machine's as the user's
    keeps children from failing because of them.
    """
    if sys.platform == "linux":
        present = int(_read("/proc/loadavg").split()[3].partition(b"/")[2])
        lower(resource.RLIMIT_NPROC, present + MAX_MORE_PROCESSES)


def _data_bytes() -> int:
    _, _, behind = _read("/proc/self/status").partition(b"VmData:")
    return int(behind.split(maxsplit=1)[0]) * 1024 if behind else 0


def _read(path: str) -> bytes:
    # Not by `open`, whose machinery would write to, and so copy, hundreds of pages that the fork shares.
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.read(descriptor, STATUS_BYTES)
    finally:
        os.close(descriptor)
