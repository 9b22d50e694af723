"""Wakeup event of a polling loop: ends its wait before the next poll is due."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field


@dataclass(slots=True)
class WakeupEvent:
    """Ends the wait of one loop; if set while nothing waits, the next wait returns at once."""

    _event: asyncio.Event = field(default_factory=asyncio.Event)

    def set(self, _payload: str = "") -> None:
        """There may be work to do."""
        self._event.set()

    async def wait(self, timeout_s: float) -> bool:
        """Wait until the event is set or the time is over, and clear it; True if it was set."""
        # Not `wait_for`, which in Python 3.11 loses a cancellation that coincides with the event.
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._event.wait()
        was_set = self._event.is_set()
        self._event.clear()
        return was_set
