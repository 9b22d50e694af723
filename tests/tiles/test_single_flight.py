"""Work that several ask for is done once, and whoever leaves takes it from nobody."""

import asyncio

import pytest

from aerotask.tiles.single_flight import SingleFlight


class Work:
    """Counts how often it was begun, and goes on when the test says so."""

    def __init__(self) -> None:
        self.begun = 0
        self.go = asyncio.Event()

    async def __call__(self) -> str:
        self.begun += 1
        await self.go.wait()
        return f"outcome {self.begun}"


async def begun(*asking: asyncio.Task[str]) -> None:
    """Let those who ask get as far as they get."""
    await asyncio.wait(asking, timeout=0)
    await asyncio.sleep(0)


async def test_who_asks_meanwhile_gets_the_same_outcome() -> None:
    once, work = SingleFlight[str](), Work()
    asking = [asyncio.create_task(once.do("key", work)) for _ in range(3)]
    await begun(*asking)
    work.go.set()
    assert await asyncio.gather(*asking) == ["outcome 1"] * 3
    assert await once.do("key", work) == "outcome 2"


async def test_another_key_is_other_work() -> None:
    once, work = SingleFlight[str](), Work()
    work.go.set()
    await asyncio.gather(once.do("a", work), once.do("b", work))
    assert work.begun == 2


async def test_it_goes_on_when_who_began_it_leaves() -> None:
    once, work = SingleFlight[str](), Work()
    first = asyncio.create_task(once.do("key", work))
    await begun(first)
    second = asyncio.create_task(once.do("key", work))
    await begun(second)
    first.cancel()
    await asyncio.wait({first})
    work.go.set()
    assert (first.cancelled(), await second, work.begun) == (True, "outcome 1", 1)


async def test_a_failure_is_everybodys_and_is_forgotten() -> None:
    once: SingleFlight[str] = SingleFlight()

    async def failing() -> str:
        await asyncio.sleep(0)
        raise ValueError("no")

    asking = [asyncio.create_task(once.do("key", failing)) for _ in range(2)]
    outcomes = await asyncio.gather(*asking, return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["no", "no"]

    work = Work()
    work.go.set()
    assert await once.do("key", work) == "outcome 1"


async def test_closing_ends_what_is_under_way() -> None:
    once, work = SingleFlight[str](), Work()
    asking = asyncio.create_task(once.do("key", work))
    await begun(asking)
    await once.close()
    with pytest.raises(asyncio.CancelledError):
        await asking
