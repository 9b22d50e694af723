import asyncio

from aerotask.cancelling import end


async def test_a_task_that_loses_a_cancellation_is_ended_all_the_same() -> None:
    begun = asyncio.Event()
    lost = 0

    async def forgetful() -> None:
        nonlocal lost
        while True:
            try:
                begun.set()
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                lost += 1
                if lost == 3:
                    raise

    task = asyncio.create_task(forgetful())
    await begun.wait()
    async with asyncio.timeout(10):
        await end(task)
    assert task.cancelled()
    assert lost == 3


async def test_tasks_that_have_ended_and_those_that_fail_are_no_trouble() -> None:
    async def failing() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise RuntimeError

    ended = asyncio.create_task(asyncio.sleep(0))
    await ended
    failed = asyncio.create_task(failing())
    await asyncio.sleep(0)
    await end(ended, failed)
    assert isinstance(failed.exception(), RuntimeError)


async def test_no_task_is_no_trouble() -> None:
    await end()
