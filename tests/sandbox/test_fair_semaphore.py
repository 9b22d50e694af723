"""Turns between callers, without processes."""

from __future__ import annotations

import asyncio

import pytest

from aerotask.sandbox.fair_semaphore import FairSemaphore, QueueFull


async def take(
    turns: FairSemaphore, caller: str, *, most: int = 10, most_each: int = 10, within_s: float = 60
) -> None:
    await turns.take(caller, most=most, most_each=most_each, within_s=within_s)


class Visit:
    """Takes a place when it gets one, notes its name, and gives the place back when told to."""

    def __init__(self, turns: FairSemaphore, caller: str, name: str, order: list[str]) -> None:
        self.leave = asyncio.Event()
        self.task = asyncio.create_task(self._visit(turns, caller, name, order))

    async def _visit(self, turns: FairSemaphore, caller: str, name: str, order: list[str]) -> None:
        await take(turns, caller)
        order.append(name)
        await self.leave.wait()
        turns.give_back()


async def settled() -> None:
    """Let every task go on as far as it can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_who_asks_for_much_lets_others_in_between() -> None:
    turns, order = FairSemaphore(1), list[str]()
    visits = [Visit(turns, "greedy", f"greedy {number}", order) for number in range(4)]
    await settled()
    visits += [
        Visit(turns, "a", "a 0", order),
        Visit(turns, "b", "b 0", order),
        Visit(turns, "a", "a 1", order),
    ]
    for visit in visits:
        visit.leave.set()
    await asyncio.gather(*(visit.task for visit in visits))
    assert order == ["greedy 0", "greedy 1", "a 0", "b 0", "greedy 2", "a 1", "greedy 3"]
    assert turns.waiting == 0


async def test_one_caller_takes_no_more_than_a_share_of_those_who_may_wait() -> None:
    turns, order = FairSemaphore(1), list[str]()
    visits = [Visit(turns, "greedy", "greedy", order) for _ in range(3)]
    await settled()
    with pytest.raises(QueueFull):
        await take(turns, "greedy", most=4, most_each=2)
    visits += [Visit(turns, name, name, order) for name in ("a", "b")]
    await settled()
    with pytest.raises(QueueFull):
        await take(turns, "c", most=4, most_each=2)
    for visit in visits:
        visit.leave.set()
    await asyncio.gather(*(visit.task for visit in visits))
    assert order == ["greedy", "greedy", "a", "b", "greedy"]


async def test_who_leaves_or_waits_too_long_loses_nobodys_turn() -> None:
    turns, order = FairSemaphore(1), list[str]()
    first, leaving, last = (Visit(turns, "a", name, order) for name in ("first", "leaving", "last"))
    await settled()
    with pytest.raises(TimeoutError):
        await take(turns, "b", within_s=0.01)
    first.leave.set()
    await settled()
    # Its turn has come, and is given on although it goes away in this very moment.
    assert order == ["first", "leaving"]
    leaving.task.cancel()
    turns.give_back()
    last.leave.set()
    await last.task
    assert order == ["first", "leaving", "last"]
    await take(turns, "c")


async def test_a_turn_that_comes_while_one_leaves_goes_to_the_next() -> None:
    turns, order = FairSemaphore(1), list[str]()
    first, leaving, last = (Visit(turns, "a", name, order) for name in ("first", "leaving", "last"))
    await settled()
    turns.give_back()  # the first one's place; what resolves the second's wait …
    leaving.task.cancel()  # … which ends before it has gone on
    await asyncio.gather(leaving.task, return_exceptions=True)
    await settled()
    assert order == ["first", "last"]
    last.leave.set()
    await last.task
    first.task.cancel()
    await take(turns, "c")
