"""Watch over the memory of children together with the processes that they start, each of which has a limit of its own.

A child leads a session, which its processes can't leave. Their memory is that of /proc/PID/status: what a process
shares with the one that forked it counts for both, since only its owner may read the proportional share.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")
# Position among the fields of /proc/PID/stat behind the program's name, see proc_pid_stat(5).
_SESSION = 3
_COUNTED = ("RssAnon:", "RssShmem:", "VmSwap:")
LIBRARIES_BYTES = 256 * 1024 * 1024
"""Memory of a process before it does anything: the interpreter and its libraries."""


def limit_of_all(memory_bytes: int, *, processes: int) -> int:
    """Limit for so many processes that may use that much memory each."""
    return processes * (memory_bytes + LIBRARIES_BYTES)


class MemoryWatch:
    """Finds the sessions of several processes that use too much memory together; a single one is limited by the kernel."""

    def __init__(self) -> None:
        self._last_pid = ""
        self._several = False

    def over_limit(self, limits: Mapping[int, int]) -> list[int]:
        """The leaders of the sessions that exceed their limit, of those in `limits`; costs little unless processes start."""
        last_pid = _last_pid()
        if last_pid == self._last_pid and not self._several:
            return []
        found = _processes_of(limits)
        self._last_pid, self._several = last_pid, any(len(pids) > 1 for pids in found.values())
        return [
            leader
            for leader, pids in found.items()
            if len(pids) > 1 and sum(map(_memory_bytes, pids)) > limits[leader]
        ]


def _last_pid() -> str:
    """Number of the process or thread that was started last on this machine."""
    with suppress(OSError):
        return (_PROC / "loadavg").read_text(encoding="ascii").split()[-1]
    return ""


def _processes_of(leaders: Collection[int]) -> Mapping[int, list[int]]:
    """The processes of each session, by its leader."""
    found = defaultdict(list)
    for entry in _PROC.iterdir():
        if entry.name.isdecimal():
            # Processes may end at any moment.
            with suppress(OSError, IndexError, ValueError):
                fields = (entry / "stat").read_bytes().rpartition(b")")[2].split()
                if (leader := int(fields[_SESSION])) in leaders:
                    found[leader].append(int(entry.name))
    return found


def _memory_bytes(pid: int) -> int:
    with suppress(OSError):
        lines = (_PROC / str(pid) / "status").read_text(encoding="utf-8", errors="replace").splitlines()
        return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith(_COUNTED))
    return 0
