"""The states of a task and the only transitions between them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class TaskState(StrEnum):
    """Where a task stands; the values are what clients see."""

    CREATED = "Created"
    """The row has committed; nothing has been told of it yet."""
    ENQUEUED = "Enqueued"
    """Its wake-up hint has been handed to the queue."""
    SCHEDULED = "Scheduled"
    """It waits for its time, a retry's delay or its user's turn."""
    PROCESSING = "Processing"
    """A worker holds its lease."""
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    DELETED = "Deleted"
    """Cancelled, or removed after it had ended."""

    @property
    def terminal(self) -> bool:
        """Whether the task has ended (a retry may still begin another attempt)."""
        return self in TERMINAL


class WaitReason(StrEnum):
    """What a task in state Scheduled waits for; the values are what clients see."""

    TIME = "scheduled-time"
    """The time that its submitter asked for."""
    RETRY = "retry-delay"
    """The end of the pause before another attempt."""
    TURN = "running-limit"
    """The end of another task of the same user, who runs as many as allowed."""


TERMINAL = frozenset({TaskState.SUCCEEDED, TaskState.FAILED, TaskState.DELETED})
WAITING = frozenset({TaskState.CREATED, TaskState.ENQUEUED, TaskState.SCHEDULED})
ACTIVE = WAITING | {TaskState.PROCESSING}

# The one table. Created → Processing is the worker that finds the row before its hint has been sent;
# Processing → Enqueued or Scheduled is a lost worker, a hand-over or a retry.
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
    """The states from which `target` may be reached."""
    return frozenset(state for state, targets in TRANSITIONS.items() if target in targets)
