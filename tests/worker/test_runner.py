"""Cancel notifications and wakeups of a worker's task runner."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from sqlalchemy import select
from tests.support.rows import add_dataset, add_user

from aerotask.config import Settings
from aerotask.db import locks
from aerotask.db.locks import LockSpace
from aerotask.db.models import Task
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
    runner = TaskRunner(context, listener, platform.maintenance, platform.admission)
    runner._running[attempt] = asyncio.create_task(asyncio.sleep(0))

    runner.on_cancelled(first.lease.name)
    assert not attempt._lost.is_set()
    runner.on_cancelled(attempt.task.lease.name)
    assert attempt._lost.is_set()


async def test_a_task_that_is_locked_when_its_wakeup_arrives_is_claimed_as_soon_as_it_is_free(
    platform: Platform, settings: Settings
) -> None:
    """It used to wait for the next poll, since a claim skips locked tasks."""
    rows = await add_dataset(platform.db, await add_user(platform.db, "owner"), "acme")
    task_id = await rows.task(tool_version="1.10")
    slow = settings.model_copy(update={"queue": replace(settings.queue, poll_s=120.0)})
    spawner = Spawner(tool_child.PROGRAM)
    context = main._worker_context(platform, slow, spawner, 1)
    runner = TaskRunner(
        context, ArqListener(settings.redis_url.get_secret_value()), platform.maintenance, platform.admission
    )
    present = asyncio.Event()
    async with platform.db.begin() as other:
        await other.execute(select(Task.id).where(Task.id == task_id).with_for_update())
        present.set()
        runner.wake()
        running = asyncio.create_task(runner.run(present))
        for _ in range(20):  # claims of the runner come in between, and find the task locked
            async with platform.db.begin() as connection:
                await locks.take(connection, LockSpace.CLAIM)
    async with asyncio.timeout(60):
        while not runner._running:  # noqa: ASYNC110  the runner tells nobody
            await asyncio.sleep(0.01)
    runner.stop()
    runner.stop()
    await running
    await spawner.close()
