"""Wakeup sender: sends the wakeups of committed tasks in batches, without delaying responses."""

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
# Beyond this many unsent wakeups the oldest are dropped; workers find their tasks by polling Postgres.
MAX_PENDING = 10_000

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class WakeupSender:
    """In-memory queue between requests that commit tasks and the one asyncio task that sends wakeups.

    What a crash or an outage of Redis loses, workers find by polling Postgres.
    """

    db: Database
    dispatcher: Dispatcher
    _pending: asyncio.Queue[Wakeup] = field(default_factory=lambda: asyncio.Queue(MAX_PENDING))

    def enqueue(self, wakeup: Wakeup) -> None:
        """Send the wakeup soon; must be called after the commit."""
        if self._pending.full():
            self._pending.get_nowait()
        self._pending.put_nowait(wakeup)

    @asynccontextmanager
    async def running(self, *, on_failure: Callable[[], None]) -> AsyncIterator[None]:
        """Send wakeups while the block runs, and the pending ones at its end.

        If that fails, `on_failure` is called, and the end of the block raises the error.
        """
        async with background(self._send_forever(), on_end=on_failure):
            yield
        await self._send(self._take_pending())

    async def _send_forever(self) -> None:
        while True:
            first = await self._pending.get()
            await self._send([first, *self._take_pending()])

    def _take_pending(self) -> list[Wakeup]:
        count = min(self._pending.qsize(), BATCH)
        return [self._pending.get_nowait() for _ in range(count)]

    async def _send(self, wakeups: list[Wakeup]) -> None:
        if not wakeups:
            return
        try:
            await self.dispatcher.send(wakeups)
            failpoint("hint-sent", fails_as=QueueAway)
            async with self.db.begin() as connection:
                # No client waits for this commit; if a crash loses it, maintenance sends the wakeups again.
                await commit_async(connection)
                await dispatch.mark_enqueued(connection, [wakeup.task_id for wakeup in wakeups])
        except Exception as error:
            if not (isinstance(error, QueueAway) or is_outage(error)):
                raise
            _log.warning("hints.unsent", count=len(wakeups), error=str(error))
