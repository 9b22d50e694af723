"""How a loop that looks for work is woken before its next look is due."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field


@dataclass(slots=True)
class WakeupEvent:
    """Wakes the one who rests; a ring that nobody heard since cuts the next rest short."""

    _rung: asyncio.Event = field(default_factory=asyncio.Event)

    def ring(self, _payload: str = "") -> None:
        """There may be something to do."""
        self._rung.set()

    async def rest(self, at_most_s: float) -> bool:
        """Return at the next ring, or when the time is over; whether it rang."""
        # Not `wait_for`, which in Python 3.11 loses a cancellation that meets the event.
        with suppress(TimeoutError):
            async with asyncio.timeout(at_most_s):
                await self._rung.wait()
        rung = self._rung.is_set()
        self._rung.clear()
        return rung
