"""One piece of work at a time for each key: who asks while it is under way gets the same outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from aerotask.aio import cancel_and_wait

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """Work under way, by key. It goes on when who asked for it leaves, since others may have joined."""

    def __init__(self) -> None:
        self._running: dict[str, asyncio.Task[T]] = {}

    async def do(self, key: str, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The outcome of the work under way for the key, or else of this one."""
        running = self._running.get(key)
        if running is None:
            running = asyncio.create_task(work())
            self._running[key] = running
            running.add_done_callback(lambda done: self._ended(key, done))
        return await asyncio.shield(running)

    async def close(self) -> None:
        """End what is under way."""
        await cancel_and_wait(*self._running.values())

    def _ended(self, key: str, done: asyncio.Task[T]) -> None:
        del self._running[key]
        if not done.cancelled():
            done.exception()  # seen, also if everybody who asked has left
