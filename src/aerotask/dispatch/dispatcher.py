"""What the platform needs of a wake-up queue."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from aerotask.domain.ids import TaskId


@dataclass(frozen=True, slots=True)
class Wakeup:
    """Says that a task may be ready to run for the attempt after `attempt`; it may be late, double or lost."""

    task_id: TaskId
    attempt: int


class QueueAway(ConnectionError):
    """The queue is out of reach."""


class Dispatcher(Protocol):
    """Sends hints."""

    async def send(self, hints: Sequence[Wakeup]) -> None:
        """Hand the hints to the queue.

        Raises:
            QueueAway: it is out of reach.
        """

    async def ping(self) -> None:
        """Ask the queue for a sign of life.

        Raises:
            QueueAway: there is none.
        """

    async def close(self) -> None:
        """Let go of the connection."""


class WakeupListener(Protocol):
    """Receives hints, each in one listener of the system."""

    async def run(self, on_hint: Callable[[Wakeup], None]) -> None:
        """Call `on_hint` for every hint until cancelled; outages of the queue are waited out."""

    def accept(self, *, more: bool) -> None:
        """Take hints, or leave them to other listeners for now."""
