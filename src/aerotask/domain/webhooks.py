"""Webhook delivery: states of a message, and the decision after each attempt."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

_MINUTE_S, _HOUR_S = 60.0, 3600.0
# Pauses after the first, second, … attempt, together just below 24 hours: short outages of a receiver cause short
# delays, and long ones are bridged.
PAUSES_S = (10.0, _MINUTE_S, 10 * _MINUTE_S, _HOUR_S, 3 * _HOUR_S, 7 * _HOUR_S, 12.5 * _HOUR_S)
MAX_TRIES = len(PAUSES_S) + 1
# Random reduction of pauses, so that messages that failed together are not retried together.
JITTER = 0.15
GONE = 410


class WebhookState(StrEnum):
    """The state of a message; clients see these values."""

    WAITING = "waiting"
    """It is due now or at its next attempt."""
    DELIVERED = "delivered"
    """The receiver answered 2xx."""
    GIVEN_UP = "given-up"
    """The last attempt failed, or its user may no longer read the task."""
    REFUSED = "refused"
    """The receiver answered 410 and wants no more messages."""


@dataclass(frozen=True, slots=True)
class NextStep:
    """The state after an attempt; `pause_s` is set if and only if another attempt follows."""

    state: WebhookState
    pause_s: float | None = None


def after_attempt(*, status: int | None, tries: int, chance: float) -> NextStep:
    """The next step after attempt number `tries`, whose response was `status` (None: no response).

    `chance` is a random number from 0 to 1.
    """
    if status is not None and 200 <= status <= 299:
        return NextStep(WebhookState.DELIVERED)
    if status == GONE:
        return NextStep(WebhookState.REFUSED)
    if tries >= MAX_TRIES:
        return NextStep(WebhookState.GIVEN_UP)
    return NextStep(WebhookState.WAITING, PAUSES_S[tries - 1] * (1 - JITTER * chance))
