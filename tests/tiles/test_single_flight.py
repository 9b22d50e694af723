"""Single flight: concurrent calls share one run, and a cancelled caller doesn't cancel it for others."""

import asyncio

import pytest

from aerotask.tiles.single_flight import SingleFlight


class Work:
    """Counts its runs, and blocks until the test sets `go`."""

    def __init__(self) -> None:
        self.runs = 0
        self.go = asyncio.Event()

    async def __call__(self) -> str:
        self.runs += 1
        await self.go.wait()
        return f"result {self.runs}"


async def started(*callers: asyncio.Task[str]) -> None:
    """Let the callers run until they wait."""
    await asyncio.wait(callers, timeout=0)
    await asyncio.sleep(0)


async def test_concurrent_callers_get_the_same_result() -> None:
    flights, work = SingleFlight[str](), Work()
    callers = [asyncio.create_task(flights.run("key", work)) for _ in range(3)]
    await started(*callers)
    work.go.set()
    assert await asyncio.gather(*callers) == ["result 1"] * 3
    assert await flights.run("key", work) == "result 2"


async def test_different_keys_run_separately() -> None:
    flights, work = SingleFlight[str](), Work()
    work.go.set()
    await asyncio.gather(flights.run("a", work), flights.run("b", work))
    assert work.runs == 2


async def test_work_continues_when_its_first_caller_is_cancelled() -> None:
    flights, work = SingleFlight[str](), Work()
    first = asyncio.create_task(flights.run("key", work))
    await started(first)
    second = asyncio.create_task(flights.run("key", work))
    await started(second)
    first.cancel()
    await asyncio.wait({first})
    work.go.set()
    assert (first.cancelled(), await second, work.runs) == (True, "result 1", 1)


async def test_a_failure_reaches_all_callers_and_is_not_cached() -> None:
    flights: SingleFlight[str] = SingleFlight()

    async def failing() -> str:
        await asyncio.sleep(0)
        raise ValueError("no")

    callers = [asyncio.create_task(flights.run("key", failing)) for _ in range(2)]
    results = await asyncio.gather(*callers, return_exceptions=True)
    assert [str(result) for result in results] == ["no", "no"]

    work = Work()
    work.go.set()
    assert await flights.run("key", work) == "result 1"


async def test_close_cancels_running_work() -> None:
    flights, work = SingleFlight[str](), Work()
    caller = asyncio.create_task(flights.run("key", work))
    await started(caller)
    await flights.close()
    with pytest.raises(asyncio.CancelledError):
        await caller
