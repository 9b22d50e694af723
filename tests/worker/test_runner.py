"""Which attempts a worker gives up when it hears of a cancel."""

from __future__ import annotations

import asyncio

from tests.support.rows import add_dataset, add_user

from aerotask.config import Settings
from aerotask.dispatch.arq import ArqListener
from aerotask.sandbox.spawner import Spawner
from aerotask.store.queue import cancel
from aerotask.wiring import Platform
from aerotask.worker import main, tool_child
from aerotask.worker.attempt import Attempt
from aerotask.worker.runner import TaskRunner


async def test_a_late_word_of_a_cancel_leaves_the_next_attempt_alone(
    platform: Platform, settings: Settings
) -> None:
    rows = await add_dataset(platform.db, await add_user(platform.db, "owner"), "acme")
    await rows.task()
    first = await rows.claimed()
    async with platform.db.begin() as connection:
        await cancel.delete_one(connection, rows.dataset_id, first.lease.task_id, actor="tests")
        await cancel.begin_again(connection, first.lease.task_id, actor="tests")
    means = main._means(platform, settings, Spawner(tool_child.PROGRAM), 1)
    attempt = Attempt(means, await rows.claimed())
    listener = ArqListener(settings.redis_url.get_secret_value())
    slots = TaskRunner(means, listener, platform.maintenance)
    slots._running[attempt] = asyncio.create_task(asyncio.sleep(0))

    slots.cancelled(first.lease.name)
    assert not attempt._lost.is_set()
    slots.cancelled(attempt.task.lease.name)
    assert attempt._lost.is_set()
