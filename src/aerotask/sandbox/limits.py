"""What a child may take from its neighbours."""

from __future__ import annotations

import os
import resource
import sys

STATUS_BYTES = 16 * 1024
"""More than the kernel has to say of a process."""


def lower(limit: int, wanted: int) -> None:
    """Set a limit of `resource`, soft and hard, to at most what it is."""
    _, hard = resource.getrlimit(limit)
    bound = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(limit, (bound, bound))


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
