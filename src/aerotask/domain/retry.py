"""Automatic retry of a failed attempt: one pure decision."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

FIRST_DELAY_S = 1.0
GROWTH = 4.0
LONGEST_DELAY_S = 300.0

OUTAGE_S = 900.0
"""How long a write waits for Postgres before the attempt is abandoned and retried."""


class FailureKind(Enum):
    """Cause of a failed attempt; all kinds count against the same limit."""

    CRASH = auto()
    """The tool's process died, or another process interrupted it."""
    RETRYABLE_ERROR = auto()
    """The tool failed with an error that it marked as retryable."""
    LOST_WORKER = auto()
    """The worker died or its heartbeat stopped."""


@dataclass(frozen=True, slots=True)
class RetryDecision:
    """Retry after `delay_s`."""

    delay_s: float


def decide_retry(kind: FailureKind, *, failed_attempts: int, max_attempts: int) -> RetryDecision | None:
    """The retry after a failed attempt, with exponential backoff; None once the limit of attempts is reached.

    `failed_attempts` includes this one. A lost worker says little about the task, so the first one is retried
    without a delay.
    """
    if failed_attempts >= max_attempts:
        return None
    step = failed_attempts - 1 if kind is FailureKind.LOST_WORKER else failed_attempts
    return RetryDecision(min(FIRST_DELAY_S * GROWTH ** (step - 1), LONGEST_DELAY_S) if step else 0.0)
