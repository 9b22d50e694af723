"""Wakeup sender: outages that it survives, and errors that it reports."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from structlog.testing import capture_logs

from aerotask.db.engine import Database
from aerotask.dispatch.dispatcher import QueueAway, Wakeup
from aerotask.domain.ids import TaskId, new_id
from aerotask.services.tasks.wakeups import WakeupSender


@dataclass(slots=True)
class Failing:
    """A queue that raises this error."""

    error: Exception
    called: asyncio.Event = field(default_factory=asyncio.Event)

    async def send(self, wakeups: Sequence[Wakeup]) -> None:
        self.called.set()
        raise self.error

    async def ping(self) -> None:
        raise self.error

    async def close(self) -> None:
        pass


def wakeup() -> Wakeup:
    return Wakeup(TaskId(new_id()), 0)


async def test_the_sender_survives_an_outage_of_the_queue(database: Database) -> None:
    queue, failed = Failing(QueueAway("away")), asyncio.Event()
    sender = WakeupSender(database, queue)
    with capture_logs() as log:
        async with sender.running(on_failure=failed.set), asyncio.timeout(10):
            sender.enqueue(wakeup())
            await queue.called.wait()
    assert [entry["event"] for entry in log] == ["hints.unsent"]
    assert not failed.is_set()


async def test_an_error_of_the_sender_is_reported_at_once_and_at_the_end(database: Database) -> None:
    failed = asyncio.Event()
    sender = WakeupSender(database, Failing(RuntimeError("broken")))

    async def send() -> None:
        async with sender.running(on_failure=failed.set), asyncio.timeout(10):
            sender.enqueue(wakeup())
            await failed.wait()

    with pytest.raises(RuntimeError, match="broken"):
        await send()
