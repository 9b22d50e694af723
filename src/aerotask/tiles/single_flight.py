"""Request coalescing: concurrent requests for the same key share one run of the work (single flight)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from aerotask.aio import cancel_and_wait

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """Running work by key; it continues when its first caller is cancelled, since others may have joined."""

    def __init__(self) -> None:
        self._running: dict[str, asyncio.Task[T]] = {}

    async def run(self, key: str, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The result of the running work for the key, or of `work` if none is running."""
        running = self._running.get(key)
        if running is None:
            running = asyncio.create_task(work())
            self._running[key] = running
            running.add_done_callback(lambda done: self._on_done(key, done))
        return await asyncio.shield(running)

    async def close(self) -> None:
        """Cancels running work."""
        await cancel_and_wait(*self._running.values())

    def _on_done(self, key: str, done: asyncio.Task[T]) -> None:
        del self._running[key]
        if not done.cancelled():
            done.exception()  # retrieved, otherwise asyncio logs it when all callers were cancelled
