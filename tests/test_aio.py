import asyncio
import threading

import pytest

from aerotask.aio import background, cancel_and_wait, finish_in_thread, first_completed


async def test_a_task_that_loses_a_cancellation_is_cancelled_again() -> None:
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
        await cancel_and_wait(task)
    assert task.cancelled()
    assert lost == 3


async def test_tasks_that_have_ended_or_fail_are_fine() -> None:
    async def failing() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise RuntimeError

    ended = asyncio.create_task(asyncio.sleep(0))
    await ended
    failed = asyncio.create_task(failing())
    await asyncio.sleep(0)
    await cancel_and_wait(ended, failed)
    assert isinstance(failed.exception(), RuntimeError)


async def test_no_tasks_are_fine() -> None:
    await cancel_and_wait()


async def test_background_work_ends_with_its_block() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        await asyncio.Event().wait()

    async with background(work(), on_end=ended.set):
        await begun.wait()
    assert not ended.is_set()


async def test_failing_background_work_calls_on_end_and_raises_at_the_end_of_the_block() -> None:
    failed = asyncio.Event()

    async def work() -> None:
        raise RuntimeError

    async def block() -> None:
        async with background(work(), on_end=failed.set), asyncio.timeout(10):
            await failed.wait()

    with pytest.raises(RuntimeError):
        await block()
    assert failed.is_set()


async def test_the_error_of_a_block_is_not_hidden_by_that_of_its_work() -> None:
    ended = asyncio.Event()

    async def work() -> None:
        raise RuntimeError

    async def block() -> None:
        async with background(work(), on_end=ended.set):
            await ended.wait()
            raise LookupError

    with pytest.raises(LookupError):
        await block()


async def test_the_first_coroutine_to_end_cancels_the_others() -> None:
    first, never = asyncio.Event(), asyncio.Event()
    first.set()
    async with asyncio.timeout(10):
        await first_completed(never.wait(), first.wait())
    assert len(asyncio.all_tasks()) == 1


async def test_a_cancelled_thread_ends_before_its_cancellation_is_raised() -> None:
    begun, go, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go.wait()
        ended.set()

    running = asyncio.create_task(finish_in_thread(work))
    await asyncio.to_thread(begun.wait)
    running.cancel()
    assert (await asyncio.wait({running}, timeout=0.1))[0] == set()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert ended.is_set()
