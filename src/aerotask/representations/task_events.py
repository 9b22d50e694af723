"""Events of a task's event stream."""

from __future__ import annotations

from aerotask.domain.states import TaskState, WaitReason
from aerotask.representations.base import ApiModel, Moment
from aerotask.store.tasks.tasks import TaskRow


class LogEvent(ApiModel):
    """A line of the log; its cursor is also the id of the stream's event."""

    cursor: int
    """The number of the line after this one."""
    line: str


class TruncatedEvent(ApiModel):
    """Requested lines that have been dropped from the log."""

    cursor: int
    """The number of the first line that is still kept."""
    lines: int
    """The number of dropped lines before it."""


class StateEvent(ApiModel):
    """The task's state, with the time and reason of its last transition."""

    state: TaskState
    waiting_for: WaitReason | None
    attempt: int
    at: Moment
    reason: str


def state_event(row: TaskRow) -> StateEvent:
    """The state of the task."""
    latest = row.history[-1] if row.history else {}  # a damaged history may be empty
    return StateEvent(
        state=row.state,
        waiting_for=row.waits_for,
        attempt=row.attempt,
        at=latest.get("at", row.finished_at or row.started_at or row.created_at),
        reason=latest.get("reason", ""),
    )
