"""Tells the queue of committed tasks, off the request: in batches, and never in the way of an answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import structlog

from aerotask.aio import background
from aerotask.db.async_commit import commit_async
from aerotask.db.engine import Database
from aerotask.db.outages import is_outage
from aerotask.dispatch.dispatcher import Dispatcher, QueueAway, Wakeup
from aerotask.failpoints import failpoint
from aerotask.store.queue import dispatch

BATCH = 200
# Beyond this many unsent hints the oldest are left to the workers' look into Postgres.
BACKLOG = 10_000

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class WakeupSender:
    """A queue in memory between those who commit tasks and the one task that sends hints.

    What it loses, by a crash or an outage of Redis, the workers' look into Postgres finds.
    """

    db: Database
    dispatcher: Dispatcher
    _waiting: asyncio.Queue[Wakeup] = field(default_factory=lambda: asyncio.Queue(BACKLOG))

    def notify(self, hint: Wakeup) -> None:
        """Send the hint soon; to be called after the commit."""
        if self._waiting.full():
            self._waiting.get_nowait()
        self._waiting.put_nowait(hint)

    @asynccontextmanager
    async def running(self, *, on_failure: Callable[[], None]) -> AsyncIterator[None]:
        """Send hints for as long as the block lasts, and those that wait at its end.

        If that fails, `on_failure` is called, and the block's end raises what it failed of.
        """
        async with background(self._send_forever(), on_end=on_failure):
            yield
        await self._send(self._gathered())

    async def _send_forever(self) -> None:
        while True:
            first = await self._waiting.get()
            await self._send([first, *self._gathered()])

    def _gathered(self) -> list[Wakeup]:
        count = min(self._waiting.qsize(), BATCH)
        return [self._waiting.get_nowait() for _ in range(count)]

    async def _send(self, hints: list[Wakeup]) -> None:
        if not hints:
            return
        try:
            await self.dispatcher.send(hints)
            failpoint("hint-sent", fails_as=QueueAway)
            async with self.db.begin() as connection:
                # Nobody waits for it, and what a crash undoes the sweep of unsent hints does again.
                await commit_async(connection)
                await dispatch.mark_enqueued(connection, [hint.task_id for hint in hints])
        except Exception as error:
            if not (isinstance(error, QueueAway) or is_outage(error)):
                raise
            _log.warning("hints.unsent", count=len(hints), error=str(error))
