"""Polling for conditions that depend on other processes."""

from __future__ import annotations

import time
from collections.abc import Callable

POLL_S = 0.005


def await_condition(condition: Callable[[], bool], *, timeout_s: float) -> bool:
    """Poll until the condition holds (True) or the time is over (False)."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True
