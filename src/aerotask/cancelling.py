"""Ending asyncio tasks for certain."""

from __future__ import annotations

import asyncio
from typing import Any

ASK_AGAIN_S = 0.5


async def end(*tasks: asyncio.Future[Any]) -> None:
    """Cancel the tasks and return when they have ended, with whatever result.

    Once isn't enough: Python 3.11's `wait_for`, which drivers and pools are built on, loses a cancellation
    that meets the end of what it waits for (https://github.com/python/cpython/issues/86296), and the task
    would go on for ever.
    """
    while left := [task for task in tasks if not task.done()]:
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=ASK_AGAIN_S)
    await asyncio.gather(*tasks, return_exceptions=True)
