"""Watching a task for a client, for as long as the client is there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.types import Receive

from aerotask.domain.ids import TaskId
from aerotask.services.tasks.notifications import Subscription, TaskNotifications


@asynccontextmanager
async def watching(
    receive: Receive, changes: TaskNotifications, task_id: TaskId
) -> AsyncIterator[Subscription]:
    """A watch on the task that is over when the client leaves."""
    with changes.watching(task_id) as watch:
        leaving = asyncio.create_task(_disconnected(receive))
        leaving.add_done_callback(lambda _leaving: watch.end())
        try:
            yield watch
        finally:
            leaving.cancel()
            await asyncio.gather(leaving, return_exceptions=True)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
