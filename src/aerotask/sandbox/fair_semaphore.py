"""Fair semaphore: callers take turns, however many requests one of them makes."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque


class QueueFull(Exception):
    """Too many requests wait already, in total or from this caller."""


class FairSemaphore:
    """Semaphore with a queue for each caller; the queues are served in turn."""

    def __init__(self, permits: int) -> None:
        self.waiting = 0
        """Number of requests that wait now."""
        self._free = permits
        self._queues: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    async def acquire(
        self, caller: str, *, max_waiting: int, max_waiting_per_caller: int, timeout_s: float
    ) -> None:
        """Take a permit, which must be released, waiting for it if the queues have room.

        Raises:
            QueueFull: too many requests wait already, in total or from this caller.
            TimeoutError: no permit became free in time.
        """
        if self._free and not self._queues:
            self._free -= 1
            return
        if self.waiting >= max_waiting or len(self._queues.get(caller, ())) >= max_waiting_per_caller:
            raise QueueFull
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queues.setdefault(caller, deque()).append(turn)
        self.waiting += 1
        try:
            async with asyncio.timeout(timeout_s):
                await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                self.release()  # the permit came at the very moment of leaving
            else:
                self._leave(caller, turn)
            raise
        finally:
            self.waiting -= 1

    def release(self) -> None:
        """Pass the permit on to the caller whose last turn is longest ago."""
        while self._queues:
            caller, queue = self._queues.popitem(last=False)
            turn = queue.popleft()
            if queue:
                self._queues[caller] = queue
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    def _leave(self, caller: str, turn: asyncio.Future[None]) -> None:
        queue = self._queues.get(caller)
        if queue is not None and turn in queue:
            queue.remove(turn)
            if not queue:
                del self._queues[caller]
