"""Waiting for what another process does: asking until it is so, never merely sleeping."""

from __future__ import annotations

import time
from collections.abc import Callable

ASK_EVERY_S = 0.005


def await_condition(condition: Callable[[], bool], *, timeout_s: float) -> bool:
    """Ask until the condition holds or the time is over; whether it holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(ASK_EVERY_S)
    return True
