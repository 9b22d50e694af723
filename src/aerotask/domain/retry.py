"""Whether a task whose attempt ended badly is tried again by itself, and when: one pure decision."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

FIRST_DELAY_S = 1.0
GROWTH = 4.0
LONGEST_DELAY_S = 300.0

OUTAGE_S = 900.0
"""For so long whoever has something to write waits for Postgres to come back, before it is given up (and done again)."""


class FailureKind(Enum):
    """What ended an attempt without it being anybody's wish; all kinds are counted together."""

    CRASH = auto()
    """The tool's process died, or was interrupted by somebody else."""
    RETRYABLE_ERROR = auto()
    """The tool failed and says that trying again may help."""
    LOST_WORKER = auto()
    """The worker died or fell silent."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again after `delay_s`."""

    delay_s: float


def after_strike(strike: FailureKind, *, strikes: int, max_strikes: int) -> Retry | None:
    """What follows the strike that brings their count to `strikes`: a retry with a growing delay, or nothing.

    A lost worker says little about the task, so the first one costs it no delay.
    """
    if strikes >= max_strikes:
        return None
    step = strikes - 1 if strike is FailureKind.LOST_WORKER else strikes
    return Retry(min(FIRST_DELAY_S * GROWTH ** (step - 1), LONGEST_DELAY_S) if step else 0.0)
