"""What becomes of a message to a task's callback address, try after try: pure decisions."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

_MINUTE_S, _HOUR_S = 60.0, 3600.0
# The pauses after the first, second, … try. Together just below 24 hours; each much longer than the one
# before, so that a short fault costs little and a long one is outlasted.
PAUSES_S = (10.0, _MINUTE_S, 10 * _MINUTE_S, _HOUR_S, 3 * _HOUR_S, 7 * _HOUR_S, 12.5 * _HOUR_S)
MAX_TRIES = len(PAUSES_S) + 1
# How much of a pause chance may take away, so that what failed together isn't tried again together.
JITTER = 0.15
GONE = 410


class WebhookState(StrEnum):
    """Where a message stands; the values are what clients see."""

    WAITING = "waiting"
    """It is due now or at its next try."""
    DELIVERED = "delivered"
    """The receiver has answered 2xx."""
    GIVEN_UP = "given-up"
    """The last try has failed, or nobody may be told any more."""
    REFUSED = "refused"
    """The receiver has answered 410: it wants no more."""


@dataclass(frozen=True, slots=True)
class NextStep:
    """What follows a try; `pause_s` is there if and only if another try does."""

    state: WebhookState
    pause_s: float | None = None


def after_attempt(*, status: int | None, tries: int, chance: float) -> NextStep:
    """What follows the try that brings the count to `tries` and was answered with `status` (None: not at all).

    `chance` is a random number from 0 to 1.
    """
    if status is not None and 200 <= status <= 299:
        return NextStep(WebhookState.DELIVERED)
    if status == GONE:
        return NextStep(WebhookState.REFUSED)
    if tries >= MAX_TRIES:
        return NextStep(WebhookState.GIVEN_UP)
    return NextStep(WebhookState.WAITING, PAUSES_S[tries - 1] * (1 - JITTER * chance))
