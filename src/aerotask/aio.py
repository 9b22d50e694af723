"""Asyncio tasks with an owner that cancels them reliably and raises their errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

CANCEL_AGAIN_S = 0.5

T = TypeVar("T")


async def cancel_and_wait(*tasks: asyncio.Future[Any]) -> None:
    """Cancel the tasks and return when they have ended, with whatever result.

    Cancelling once isn't enough: Python 3.11's `wait_for`, which drivers and pools use, loses a cancellation that
    coincides with the end of its task (https://github.com/python/cpython/issues/86296), and the task would never end.
    """
    while left := [task for task in tasks if not task.done()]:
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=CANCEL_AGAIN_S)
    await asyncio.gather(*tasks, return_exceptions=True)


async def first_completed(*coroutines: Coroutine[Any, Any, Any]) -> None:
    """Return when the first of the coroutines has ended, and cancel the others."""
    tasks = [asyncio.ensure_future(each) for each in coroutines]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await cancel_and_wait(*tasks)


async def finish_in_thread(work: Callable[[], T]) -> T:
    """The result of work in a thread; a cancellation is raised only once the thread has ended.

    Otherwise the thread would still write files while its canceller already removes them.
    """
    running = asyncio.ensure_future(asyncio.to_thread(work))
    cancelled: asyncio.CancelledError | None = None
    while not running.done():
        try:
            await asyncio.wait({running})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
    return running.result()


@asynccontextmanager
async def background(work: Coroutine[Any, Any, None], *, on_end: Callable[[], None]) -> AsyncIterator[None]:
    """Run the work in the background of the block; `on_end` is called if it ends before the block.

    Raises:
        The error of the work, once the block has ended without one.
    """
    task = asyncio.ensure_future(work)
    task.add_done_callback(lambda done: None if done.cancelled() else on_end())
    try:
        yield
    finally:
        await cancel_and_wait(task)
    if not task.cancelled():
        task.result()
