"""Non-dumpable processes: their memory and environment are hidden from others of the same user."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress

_PR_SET_DUMPABLE = 4


def make_undumpable() -> None:
    """Hide this process's environment and memory from processes of the same user: children open users' files.

    Forked processes inherit it, until they execute another program.
    """
    if sys.platform == "linux":
        with suppress(OSError):
            ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
