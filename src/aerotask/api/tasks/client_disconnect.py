"""Task subscriptions that end when their client disconnects."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.types import Receive

from aerotask.domain.ids import TaskId
from aerotask.services.tasks.notifications import Subscription, TaskNotifications


@asynccontextmanager
async def subscribed(
    receive: Receive, notifications: TaskNotifications, task_id: TaskId
) -> AsyncIterator[Subscription]:
    """Subscribes to the task's notifications until the client disconnects."""
    with notifications.subscribe(task_id) as subscription:
        disconnect = asyncio.create_task(_disconnected(receive))
        disconnect.add_done_callback(lambda _disconnect: subscription.close())
        try:
            yield subscription
        finally:
            disconnect.cancel()
            await asyncio.gather(disconnect, return_exceptions=True)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
