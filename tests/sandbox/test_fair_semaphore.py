"""Fairness between callers of the semaphore, without processes."""

from __future__ import annotations

import asyncio

import pytest

from aerotask.sandbox.fair_semaphore import FairSemaphore, QueueFull


async def acquire(
    semaphore: FairSemaphore,
    caller: str,
    *,
    max_waiting: int = 10,
    per_caller: int = 10,
    timeout_s: float = 60,
) -> None:
    await semaphore.acquire(
        caller, max_waiting=max_waiting, max_waiting_per_caller=per_caller, timeout_s=timeout_s
    )


class Holder:
    """Acquires the semaphore, records its name, and releases it once `leave` is set."""

    def __init__(self, semaphore: FairSemaphore, caller: str, name: str, order: list[str]) -> None:
        self.leave = asyncio.Event()
        self.task = asyncio.create_task(self._hold(semaphore, caller, name, order))

    async def _hold(self, semaphore: FairSemaphore, caller: str, name: str, order: list[str]) -> None:
        await acquire(semaphore, caller)
        order.append(name)
        await self.leave.wait()
        semaphore.release()


async def settled() -> None:
    """Let every task run as far as it can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_caller_with_many_requests_lets_others_in_between() -> None:
    semaphore, order = FairSemaphore(1), list[str]()
    holders = [Holder(semaphore, "greedy", f"greedy {number}", order) for number in range(4)]
    await settled()
    holders += [
        Holder(semaphore, "a", "a 0", order),
        Holder(semaphore, "b", "b 0", order),
        Holder(semaphore, "a", "a 1", order),
    ]
    for holder in holders:
        holder.leave.set()
    await asyncio.gather(*(holder.task for holder in holders))
    assert order == ["greedy 0", "greedy 1", "a 0", "b 0", "greedy 2", "a 1", "greedy 3"]
    assert semaphore.waiting == 0


async def test_one_caller_has_only_a_share_of_the_queue() -> None:
    semaphore, order = FairSemaphore(1), list[str]()
    holders = [Holder(semaphore, "greedy", "greedy", order) for _ in range(3)]
    await settled()
    with pytest.raises(QueueFull):
        await acquire(semaphore, "greedy", max_waiting=4, per_caller=2)
    holders += [Holder(semaphore, name, name, order) for name in ("a", "b")]
    await settled()
    with pytest.raises(QueueFull):
        await acquire(semaphore, "c", max_waiting=4, per_caller=2)
    for holder in holders:
        holder.leave.set()
    await asyncio.gather(*(holder.task for holder in holders))
    assert order == ["greedy", "greedy", "a", "b", "greedy"]


async def test_a_request_that_leaves_or_times_out_costs_no_other_its_turn() -> None:
    semaphore, order = FairSemaphore(1), list[str]()
    first, leaving, last = (Holder(semaphore, "a", name, order) for name in ("first", "leaving", "last"))
    await settled()
    with pytest.raises(TimeoutError):
        await acquire(semaphore, "b", timeout_s=0.01)
    first.leave.set()
    await settled()
    # Its turn has come, and is passed on although it leaves at this very moment.
    assert order == ["first", "leaving"]
    leaving.task.cancel()
    semaphore.release()
    last.leave.set()
    await last.task
    assert order == ["first", "leaving", "last"]
    await acquire(semaphore, "c")


async def test_a_permit_that_comes_while_a_request_leaves_goes_to_the_next() -> None:
    semaphore, order = FairSemaphore(1), list[str]()
    first, leaving, last = (Holder(semaphore, "a", name, order) for name in ("first", "leaving", "last"))
    await settled()
    semaphore.release()  # the first one's permit, which resolves the second's wait …
    leaving.task.cancel()  # … but the second is cancelled before it resumes
    await asyncio.gather(leaving.task, return_exceptions=True)
    await settled()
    assert order == ["first", "last"]
    last.leave.set()
    await last.task
    first.task.cancel()
    await acquire(semaphore, "c")
