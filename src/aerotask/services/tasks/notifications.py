"""Wakes those who watch a task when Postgres tells that it has changed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from aerotask.aio import background
from aerotask.db.listen import Listener
from aerotask.domain.ids import TaskId
from aerotask.store.tasks.tasks import TASK_CHANNEL


class Subscription:
    """One watcher's place: whether something has happened since they last asked, and whether to go on at all.

    Small, since thousands of clients may watch and nearly all of them do nothing but wait.
    """

    __slots__ = ("_news", "_over", "_waiter")

    def __init__(self) -> None:
        self._news = False
        self._over = False
        self._waiter: asyncio.Future[None] | None = None

    @property
    def over(self) -> bool:
        """Whether the watcher should end: the client has left, or the process is about to."""
        return self._over

    async def changed(self, *, within_s: float) -> bool:
        """Wait for a change since the last call; False if there was none in time, or the watch is over."""
        if not (self._news or self._over):
            loop = asyncio.get_running_loop()
            self._waiter = loop.create_future()
            timer = loop.call_later(within_s, self._release)
            try:
                await self._waiter
            finally:
                timer.cancel()
                self._waiter = None
        news, self._news = self._news, False
        return news and not self._over

    def wake(self) -> None:
        """Note that the task may have changed."""
        self._news = True
        self._release()

    def end(self) -> None:
        """Have the watcher end."""
        self._over = True
        self._release()

    def _release(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class TaskNotifications:
    """Every watch of this process, behind one connection to Postgres, whatever their number."""

    def __init__(self, database_url: str) -> None:
        self._watches: dict[str, set[Subscription]] = {}
        self._closed = False
        self._listening = Listener(
            database_url, application="aerotask api changes", channels={TASK_CHANNEL: self._wake}
        )

    @asynccontextmanager
    async def running(self, *, on_failure: Callable[[], None]) -> AsyncIterator[None]:
        """Listen for as long as the block lasts.

        If that fails, `on_failure` is called, and the block's end raises what it failed of.
        """
        async with background(self._listening.run(self._wake_all), on_end=on_failure):
            try:
                yield
            finally:
                self.close()

    @contextmanager
    def watching(self, task_id: TaskId) -> Iterator[Subscription]:
        """A watch on the task; what changes from here on, however early, is not missed."""
        key, watch = str(task_id), Subscription()
        if self._closed:
            watch.end()
        self._watches.setdefault(key, set()).add(watch)
        try:
            yield watch
        finally:
            self._watches[key].discard(watch)
            if not self._watches[key]:
                del self._watches[key]

    def close(self) -> None:
        """End every watch, also those to come: the process is about to stop, and they would outlast it."""
        self._closed = True
        for watch in self._all():
            watch.end()

    def _wake(self, task_id: str) -> None:
        for watch in self._watches.get(task_id, ()):
            watch.wake()

    def _wake_all(self) -> None:
        # Whatever was told before the connection was there, nobody has heard.
        for watch in self._all():
            watch.wake()

    def _all(self) -> Iterator[Subscription]:
        return (watch for watches in self._watches.values() for watch in watches)
