"""Notifications of task changes: fans out one LISTEN connection to the subscriptions of waiting clients."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from aerotask.aio import background
from aerotask.db.listen import Listener
from aerotask.domain.ids import TaskId
from aerotask.store.tasks.tasks import TASK_CHANNEL


class Subscription:
    """One client's subscription to the changes of a task.

    Small, since thousands of clients may subscribe and nearly all of them only wait.
    """

    __slots__ = ("_changed", "_closed", "_waiter")

    def __init__(self) -> None:
        self._changed = False
        self._closed = False
        self._waiter: asyncio.Future[None] | None = None

    @property
    def closed(self) -> bool:
        """Whether the client has left, or the process is about to stop."""
        return self._closed

    async def wait(self, timeout_s: float) -> bool:
        """Wait for a change since the last call; False if there was none in time, or it was closed."""
        if not (self._changed or self._closed):
            loop = asyncio.get_running_loop()
            self._waiter = loop.create_future()
            timer = loop.call_later(timeout_s, self._release)
            try:
                await self._waiter
            finally:
                timer.cancel()
                self._waiter = None
        changed, self._changed = self._changed, False
        return changed and not self._closed

    def notify(self) -> None:
        """Record that the task may have changed, and end the wait."""
        self._changed = True
        self._release()

    def close(self) -> None:
        """End this wait and all later ones."""
        self._closed = True
        self._release()

    def _release(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class TaskNotifications:
    """All subscriptions of this process, behind one connection to Postgres."""

    def __init__(self, database_url: str) -> None:
        self._subscriptions: dict[str, set[Subscription]] = {}
        self._closed = False
        self._listener = Listener(
            database_url, application="aerotask api changes", channels={TASK_CHANNEL: self._notify}
        )

    @asynccontextmanager
    async def running(self, *, on_failure: Callable[[], None]) -> AsyncIterator[None]:
        """Listen while the block runs.

        If that fails, `on_failure` is called, and the end of the block raises the error.
        """
        async with background(self._listener.run(self._notify_all), on_end=on_failure):
            try:
                yield
            finally:
                self.close()

    @contextmanager
    def subscribe(self, task_id: TaskId) -> Iterator[Subscription]:
        """A subscription to the task that misses no change from here on."""
        key, subscription = str(task_id), Subscription()
        if self._closed:
            subscription.close()
        self._subscriptions.setdefault(key, set()).add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions[key].discard(subscription)
            if not self._subscriptions[key]:
                del self._subscriptions[key]

    def close(self) -> None:
        """Close every subscription, also later ones: otherwise they would delay the process's stop."""
        self._closed = True
        for subscription in self._all():
            subscription.close()

    def _notify(self, task_id: str) -> None:
        for subscription in self._subscriptions.get(task_id, ()):
            subscription.notify()

    def _notify_all(self) -> None:
        # Notifications that were sent while the connection was down are lost.
        for subscription in self._all():
            subscription.notify()

    def _all(self) -> Iterator[Subscription]:
        return (each for subscriptions in self._subscriptions.values() for each in subscriptions)
