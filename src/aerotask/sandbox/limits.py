"""What a child may take from its neighbours."""

from __future__ import annotations

import resource
import sys
from pathlib import Path


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
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    return 0
