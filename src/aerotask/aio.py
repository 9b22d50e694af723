"""Asyncio tasks with an owner: ended for certain, and missed when they fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

ASK_AGAIN_S = 0.5


async def cancel_and_wait(*tasks: asyncio.Future[Any]) -> None:
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


async def first_completed(*waits: Coroutine[Any, Any, Any]) -> None:
    """Return when one of the waits is over, and end the others."""
    waiting = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await cancel_and_wait(*waiting)


@asynccontextmanager
async def background(work: Coroutine[Any, Any, None], *, on_end: Callable[[], None]) -> AsyncIterator[None]:
    """Do the work for as long as the block lasts; `on_end` is called if it ends before.

    Raises:
        Whatever the work failed of, once the block has ended well.
    """
    working = asyncio.ensure_future(work)
    working.add_done_callback(lambda done: None if done.cancelled() else on_end())
    try:
        yield
    finally:
        await cancel_and_wait(working)
    if not working.cancelled():
        working.result()
