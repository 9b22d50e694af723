"""Keeps a process from others of the same user: its secrets, and its memory."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress

_PR_SET_DUMPABLE = 4


def hide_from_children() -> None:
    """Keep our environment and memory from processes of the same user: children open people's files.

    It holds for processes that are forked, until they execute another program.
    """
    if sys.platform == "linux":
        with suppress(OSError):
            ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
