"""The states of a task and the only transitions between them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class TaskState(StrEnum):
    """The state of a task; clients see these values."""

    CREATED = "Created"
    """The task is committed but not dispatched yet."""
    ENQUEUED = "Enqueued"
    """Its wake-up hint has been sent to the queue."""
    SCHEDULED = "Scheduled"
    """It waits for its due time, a retry's delay, or its user's concurrency limit."""
    PROCESSING = "Processing"
    """A worker holds its lease."""
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    DELETED = "Deleted"
    """Cancelled, or deleted after its end."""

    @property
    def terminal(self) -> bool:
        """True if the task has ended (a manual retry may still start another attempt)."""
        return self in TERMINAL


class WaitReason(StrEnum):
    """The reason why a Scheduled task waits; clients see these values."""

    TIME = "scheduled-time"
    """Its requested start time."""
    RETRY = "retry-delay"
    """The delay before another attempt."""
    TURN = "running-limit"
    """Its user already runs as many tasks as allowed."""


TERMINAL = frozenset({TaskState.SUCCEEDED, TaskState.FAILED, TaskState.DELETED})
WAITING = frozenset({TaskState.CREATED, TaskState.ENQUEUED, TaskState.SCHEDULED})
ACTIVE = WAITING | {TaskState.PROCESSING}

# Created → Processing: a worker claims the task before its hint has been sent.
# Processing → Enqueued or Scheduled: a lost worker, a hand-over or a retry.
TRANSITIONS: Mapping[TaskState, frozenset[TaskState]] = {
    TaskState.CREATED: frozenset(
        {TaskState.ENQUEUED, TaskState.SCHEDULED, TaskState.PROCESSING, TaskState.DELETED}
    ),
    TaskState.ENQUEUED: frozenset({TaskState.SCHEDULED, TaskState.PROCESSING, TaskState.DELETED}),
    TaskState.SCHEDULED: frozenset({TaskState.ENQUEUED, TaskState.PROCESSING, TaskState.DELETED}),
    TaskState.PROCESSING: frozenset(
        {
            TaskState.ENQUEUED,
            TaskState.SCHEDULED,
            TaskState.SUCCEEDED,
            TaskState.FAILED,
            TaskState.DELETED,
        }
    ),
    TaskState.SUCCEEDED: frozenset({TaskState.DELETED}),
    TaskState.FAILED: frozenset({TaskState.ENQUEUED, TaskState.DELETED}),
    TaskState.DELETED: frozenset({TaskState.ENQUEUED}),
}


def sources_of(target: TaskState) -> frozenset[TaskState]:
    """The states with a transition to `target`."""
    return frozenset(state for state, targets in TRANSITIONS.items() if target in targets)
