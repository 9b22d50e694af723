"""Many wakeups for one task: it runs once."""

import asyncio
from collections.abc import Iterator
from uuid import UUID

import pytest
from tests.support.processes import add_worker, claims, dismiss
from tests.support.world import World

from aerotask.dispatch.arq import ArqDispatcher
from aerotask.dispatch.dispatcher import Wakeup
from aerotask.domain.ids import TaskId


@pytest.fixture
def four_workers(world: World) -> Iterator[World]:
    """The shared stack with two more workers."""
    others = [add_worker(world) for _ in range(2)]
    yield world
    for worker in others:
        dismiss(world, worker)


def test_fifty_wakeups_to_four_workers_make_one_attempt(four_workers: World) -> None:
    dataset = four_workers.dataset()
    tasks = [dataset.submit("nothing", {"label": str(number)}) for number in range(5)]

    asyncio.run(hint(four_workers, tasks, times=50))

    for task_id in tasks:
        task = dataset.wait(task_id)
        assert (task["state"], task["attempt"], len(claims(task))) == ("Succeeded", 1, 1)


async def hint(world: World, tasks: list[str], *, times: int) -> None:
    """Send wakeups for the tasks, each with another attempt number, so that the queue doesn't merge them."""
    dispatcher = ArqDispatcher(world.stack.environment["AEROTASK_REDIS_URL"])
    try:
        await dispatcher.send([Wakeup(TaskId(UUID(task)), n) for n in range(times) for task in tasks])
    finally:
        await dispatcher.close()
