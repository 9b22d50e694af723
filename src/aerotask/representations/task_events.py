"""The events of a task, as its stream shows them."""

from __future__ import annotations

from aerotask.domain.states import TaskState, WaitReason
from aerotask.representations.base import ApiModel, Moment
from aerotask.store.tasks.tasks import TaskRow


class LogEvent(ApiModel):
    """A line of the log; the stream's event has the cursor as its id too."""

    cursor: int
    """Where reading goes on after this line."""
    line: str


class TruncatedEvent(ApiModel):
    """Lines that were asked for and are no longer kept."""

    cursor: int
    """The number of the first line that is."""
    lines: int
    """How many were lost before it."""


class StateEvent(ApiModel):
    """The state that the task is in, since when and why."""

    state: TaskState
    waiting_for: WaitReason | None
    attempt: int
    at: Moment
    reason: str


def state_event(row: TaskRow) -> StateEvent:
    """The state of the task."""
    latest = row.history[-1]
    return StateEvent(
        state=row.state,
        waiting_for=row.waits_for,
        attempt=row.attempt,
        at=latest["at"],
        reason=latest["reason"],
    )
