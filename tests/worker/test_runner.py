"""Cancel notifications of a worker's task runner."""

from __future__ import annotations

import asyncio

from tests.support.rows import add_dataset, add_user

from aerotask.config import Settings
from aerotask.dispatch.arq import ArqListener
from aerotask.sandbox.spawner import Spawner
from aerotask.store.queue import cancel, retry
from aerotask.wiring import Platform
from aerotask.worker import main, tool_child
from aerotask.worker.attempt import Attempt
from aerotask.worker.runner import TaskRunner


async def test_a_late_cancel_notification_does_not_stop_the_next_attempt(
    platform: Platform, settings: Settings
) -> None:
    rows = await add_dataset(platform.db, await add_user(platform.db, "owner"), "acme")
    await rows.task()
    first = await rows.claimed()
    async with platform.db.begin() as connection:
        await cancel.cancel_or_delete(connection, rows.dataset_id, first.lease.task_id, actor="tests")
        await retry.requeue(connection, first.lease.task_id, actor="tests")
    context = main._worker_context(platform, settings, Spawner(tool_child.PROGRAM), 1)
    attempt = Attempt(context, await rows.claimed())
    listener = ArqListener(settings.redis_url.get_secret_value())
    runner = TaskRunner(context, listener, platform.maintenance)
    runner._running[attempt] = asyncio.create_task(asyncio.sleep(0))

    runner.on_cancelled(first.lease.name)
    assert not attempt._lost.is_set()
    runner.on_cancelled(attempt.task.lease.name)
    assert attempt._lost.is_set()
