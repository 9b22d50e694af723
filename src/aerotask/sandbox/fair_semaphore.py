"""Turns at a few places: those who wait take them one after the other, however much one of them asks for."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque


class QueueFull(Exception):
    """Too many wait already, or too many of the same."""


class FairSemaphore:
    """Places, and who waits for one: in a row of their own for each caller, the rows taken in turn."""

    def __init__(self, places: int) -> None:
        self.waiting = 0
        """How many wait now."""
        self._free = places
        self._rows: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    async def take(self, caller: str, *, most: int, most_each: int, within_s: float) -> None:
        """Wait for a place, unless `most` wait already, or `most_each` of this caller's; it must be given back.

        Raises:
            Crowded: too many wait already, altogether or of this caller's.
            TimeoutError: there was none in time.
        """
        if self._free and not self._rows:
            self._free -= 1
            return
        if self.waiting >= most or len(self._rows.get(caller, ())) >= most_each:
            raise QueueFull
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._rows.setdefault(caller, deque()).append(turn)
        self.waiting += 1
        try:
            async with asyncio.timeout(within_s):
                await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                self.give_back()  # it came in the very moment of leaving
            else:
                self._leave(caller, turn)
            raise
        finally:
            self.waiting -= 1

    def give_back(self) -> None:
        """Let the next one have the place, of the caller who has waited longest for a turn."""
        while self._rows:
            caller, row = self._rows.popitem(last=False)
            turn = row.popleft()
            if row:
                self._rows[caller] = row
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    def _leave(self, caller: str, turn: asyncio.Future[None]) -> None:
        row = self._rows.get(caller)
        if row is not None and turn in row:
            row.remove(turn)
            if not row:
                del self._rows[caller]
