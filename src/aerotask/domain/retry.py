"""Automatic retry of failed attempts: a pure decision."""

from __future__ import annotations

from enum import Enum, auto

FIRST_DELAY_S = 1.0
GROWTH = 4.0
LONGEST_DELAY_S = 300.0
MAX_OUTAGE_STEPS = 10

OUTAGE_S = 900.0
"""Time that a write waits for Postgres before the attempt is abandoned and retried."""


class FailureKind(Enum):
    """The reason why an attempt failed; all kinds count towards one limit."""

    CRASH = auto()
    """The tool's process died or was killed from outside."""
    RETRYABLE_ERROR = auto()
    """The tool raised an error that it marked as retryable."""
    LOST_WORKER = auto()
    """The worker died or stopped responding."""


def outage_delay_s(attempt: int) -> float:
    """Delay before the next attempt of a task that an outage of the storage has interrupted, growing with the attempts."""
    return min(FIRST_DELAY_S * GROWTH ** min(attempt, MAX_OUTAGE_STEPS), LONGEST_DELAY_S)


def retry_delay_s(kind: FailureKind, *, failed_attempts: int, max_attempts: int) -> float | None:
    """Delay before the next attempt, growing with `failed_attempts`, which include this one; None after the last.

    A lost worker says little about the task, so the first one causes no delay.
    """
    if failed_attempts >= max_attempts:
        return None
    step = failed_attempts - 1 if kind is FailureKind.LOST_WORKER else failed_attempts
    return min(FIRST_DELAY_S * GROWTH ** (step - 1), LONGEST_DELAY_S) if step else 0.0
