"""Exit status of a process in words."""

from __future__ import annotations

from collections.abc import Mapping
from signal import SIGKILL, SIGPROF, Signals

_HINTS: Mapping[int, str] = {
    SIGKILL: "; the machine may have run out of memory",
    SIGPROF: "; it had used up its processor time",
}


def describe_exit(status: int | None) -> str:
    """Cause of a child's end without a result; negative for a signal, None if it still runs."""
    if status is None:
        return "it stopped answering"
    if status < 0:
        name = Signals(-status).name if -status in set(Signals) else f"signal {-status}"
        return f"it was ended by {name}{_HINTS.get(-status, '')}"
    return f"it exited with status {status} without a result"
