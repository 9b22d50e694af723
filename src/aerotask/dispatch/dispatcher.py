"""Interface of the wake-up queue."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from aerotask.domain.ids import TaskId


@dataclass(frozen=True, slots=True)
class Wakeup:
    """Hint that a task may be due for the attempt after `attempt`; it may arrive late, twice or never."""

    task_id: TaskId
    attempt: int


class QueueAway(ConnectionError):
    """The queue is unreachable."""


class Dispatcher(Protocol):
    """Sends wakeups."""

    async def send(self, wakeups: Sequence[Wakeup]) -> None:
        """Add the wakeups to the queue.

        Raises:
            QueueAway: it is unreachable.
        """

    async def ping(self) -> None:
        """Check that the queue responds.

        Raises:
            QueueAway: it doesn't.
        """

    async def close(self) -> None:
        """Close the connection."""


class WakeupListener(Protocol):
    """Receives wakeups; each reaches one listener of the system."""

    async def run(self, on_wakeup: Callable[[Wakeup], None]) -> None:
        """Call `on_wakeup` for every wakeup until cancelled; an outage of the queue only delays them."""

    def accept(self, *, more: bool) -> None:
        """Receive wakeups, or leave them to other listeners for now."""
