import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Self

import pytest

from aerotask.dispatch.arq import QUEUE, ArqDispatcher, ArqListener
from aerotask.dispatch.dispatcher import Wakeup
from aerotask.domain.ids import TaskId, new_id
from aerotask.stack.folder import OwnedFolder
from aerotask.stack.valkey import EmbeddedValkey

TIMEOUT_S = 20


@pytest.fixture
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    """A Valkey that the tests may stop."""
    with OwnedFolder(tmp_path_factory.mktemp("valkey")) as folder:
        server = EmbeddedValkey(folder, durable=False)
        server.start()
        yield server
        server.stop()


@pytest.fixture
async def dispatcher(valkey: EmbeddedValkey) -> AsyncIterator[ArqDispatcher]:
    opened = ArqDispatcher(valkey.url)
    yield opened
    await opened.close()


class RunningListener:
    """Runs a listener and records the wakeups that it receives."""

    def __init__(self, url: str) -> None:
        self.listener = ArqListener(url)
        self.wakeups: asyncio.Queue[Wakeup] = asyncio.Queue()

    async def __aenter__(self) -> Self:
        self._running = asyncio.create_task(self.listener.run(self.wakeups.put_nowait))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)

    async def next(self) -> Wakeup:
        return await asyncio.wait_for(self.wakeups.get(), TIMEOUT_S)


def wakeup(attempt: int = 0) -> Wakeup:
    return Wakeup(TaskId(new_id()), attempt)


async def test_a_wakeup_arrives_at_one_listener(valkey: EmbeddedValkey, dispatcher: ArqDispatcher) -> None:
    sent = [wakeup() for _ in range(20)]
    async with RunningListener(valkey.url) as one, RunningListener(valkey.url) as other:
        await dispatcher.send(sent)
        received: list[Wakeup] = []
        async with asyncio.timeout(TIMEOUT_S):
            while len(received) < 20:
                for listening in (one, other):
                    while not listening.wakeups.empty():
                        received.append(listening.wakeups.get_nowait())
                await asyncio.sleep(0)
    assert sorted(map(str, received)) == sorted(map(str, sent))


async def test_a_later_attempt_of_the_same_task_is_another_wakeup(
    valkey: EmbeddedValkey, dispatcher: ArqDispatcher
) -> None:
    first = wakeup()
    async with RunningListener(valkey.url) as listening:
        await dispatcher.send([first])
        assert await listening.next() == first
        await dispatcher.send([Wakeup(first.task_id, 1)])
        assert await listening.next() == Wakeup(first.task_id, 1)
        await dispatcher.send([first])
        assert await listening.next() == first


async def test_a_listener_that_does_not_accept_leaves_wakeups_to_others(
    valkey: EmbeddedValkey, dispatcher: ArqDispatcher
) -> None:
    async with RunningListener(valkey.url) as busy, RunningListener(valkey.url) as idle:
        busy.listener.accept(more=False)
        for _ in range(10):
            await dispatcher.send([wakeup()])
            await idle.next()
        assert busy.wakeups.empty()
        idle.listener.accept(more=False)
        busy.listener.accept(more=True)
        await dispatcher.send([wakeup()])
        await busy.next()


async def test_a_listener_outlasts_an_outage(valkey: EmbeddedValkey, dispatcher: ArqDispatcher) -> None:
    async with RunningListener(valkey.url) as listening:
        await dispatcher.send([wakeup()])
        await listening.next()
        valkey.stop()
        with pytest.raises(OSError, match="Redis"):
            await dispatcher.send([wakeup()])
        with pytest.raises(OSError, match="Redis"):
            await dispatcher.ping()
        valkey.start()
        await dispatcher.ping()
        late = wakeup()
        await dispatcher.send([late])
        assert await listening.next() == late


async def test_a_queued_wakeup_is_not_duplicated(dispatcher: ArqDispatcher) -> None:
    waiting, other = wakeup(), wakeup()
    await dispatcher.send([waiting])
    await dispatcher.send([waiting, other, waiting])
    assert await dispatcher._redis.zcard(QUEUE) == 2
    assert len(await dispatcher._redis.keys("arq:job:*")) == 2


async def test_a_batch_of_wakeups_is_one_round_trip(
    valkey: EmbeddedValkey, dispatcher: ArqDispatcher
) -> None:
    await dispatcher.ping()
    async with dispatcher._redis.monitor() as monitor:  # which takes the open connection; another is opened
        await dispatcher.send([wakeup() for _ in range(3)])
        seen: list[str] = []
        while "EXEC" not in seen:
            command = await asyncio.wait_for(monitor.next_command(), TIMEOUT_S)
            seen.append(str(command["command"]).split(" ", 1)[0].upper())
    assert seen[seen.index("MULTI") :] == ["MULTI", "SET", "ZADD", "SET", "ZADD", "SET", "ZADD", "EXEC"]


async def test_wakeups_are_json_and_never_pickles(valkey: EmbeddedValkey, dispatcher: ArqDispatcher) -> None:
    await dispatcher.send([wakeup()])
    [key] = await dispatcher._redis.keys("arq:job:*")
    assert (await dispatcher._redis.get(key)).startswith(b"{")


async def test_a_wakeup_that_has_expired_is_dropped_without_an_error(
    valkey: EmbeddedValkey, dispatcher: ArqDispatcher, caplog: pytest.LogCaptureFixture
) -> None:
    expired, later = wakeup(), wakeup()
    await dispatcher.send([expired, later])
    await dispatcher._redis.delete(f"arq:job:{expired.task_id}:0")
    async with RunningListener(valkey.url) as listening:
        assert await listening.next() == later
        async with asyncio.timeout(TIMEOUT_S):
            while await dispatcher._redis.zcard(QUEUE):
                continue
    assert [record.message for record in caplog.records if record.exc_info] == []
