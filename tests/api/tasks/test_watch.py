"""Long polls, ETags and event streams, with the API in this process and the test as worker."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
from tests.support.databases import fresh_database, make_template, run_sql
from tests.support.served import Served, served, until
from tests.support.sse import KEEPALIVE, Event, aevents_of, lines_of

from aerotask.config import Settings
from aerotask.db.outages import is_outage
from aerotask.stack.folder import OwnedFolder
from aerotask.stack.servers import running_postgres
from aerotask.store.queue.claims import ClaimedTask

END_LISTENING = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'aerotask api changes'
"""


@pytest.fixture
async def api(settings: Settings) -> AsyncIterator[Served]:
    async with served(settings) as running:
        yield running


@pytest.fixture
async def task(api: Served) -> ClaimedTask:
    return await api.running_task()


async def status(
    api: Served, task: ClaimedTask, *, wait: float | None = None, known: str | None = None
) -> httpx.Response:
    params = {} if wait is None else {"wait": wait}
    headers = {} if known is None else {"If-None-Match": known}
    return await api.client.get(api.address(task.lease.task_id), params=params, headers=headers)


@asynccontextmanager
async def streaming(api: Served, task: ClaimedTask) -> AsyncIterator[list[Event]]:
    """The events of a stream so far; the stream is read to its end before the block ends."""
    received: list[Event] = []

    async def read() -> None:
        async with api.client.stream("GET", f"{api.address(task.lease.task_id)}/events") as response:
            async for event in aevents_of(response):
                received.append(event)  # noqa: PERF401  the test reads the list meanwhile

    reading = asyncio.create_task(read())
    try:
        yield received
        await reading
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def test_a_status_has_a_weak_etag_that_ignores_elapsed_time(api: Served, task: ClaimedTask) -> None:
    first = await status(api, task)
    await until(lambda: time.time() * 1000 > first.json()["processingTimeMs"])
    again = await status(api, task)
    assert first.headers["etag"].startswith('W/"')
    assert again.headers["etag"] == first.headers["etag"]
    assert again.json()["processingTimeMs"] > first.json()["processingTimeMs"]


async def test_a_known_status_gets_304(api: Served, task: ClaimedTask) -> None:
    tag = (await status(api, task)).headers["etag"]
    for known in (tag, tag.removeprefix("W/"), f'"other", {tag}', "*"):
        answer = await status(api, task, known=known)
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag)
    assert (await status(api, task, known='"other"')).status_code == 200


async def test_the_etag_changes_with_progress_log_and_state(api: Served, task: ClaimedTask) -> None:
    tags = [(await status(api, task)).headers["etag"]]
    await api.report(task, 0, percent=10.0)
    tags.append((await status(api, task)).headers["etag"])
    await api.report(task, 0, "a line", percent=10.0)
    tags.append((await status(api, task)).headers["etag"])
    await api.succeed(task, 1)
    tags.append((await status(api, task)).headers["etag"])
    assert len(set(tags)) == 4


async def test_a_long_poll_returns_when_the_task_changes(api: Served, task: ClaimedTask) -> None:
    began = time.monotonic()
    waiting = asyncio.create_task(status(api, task, wait=30))
    await until(lambda: time.monotonic() - began > 0.5)
    assert not waiting.done()

    # Repeated, since a change before the API has subscribed doesn't end the poll.
    for percent in range(1, 100):
        await api.report(task, 0, percent=float(percent))
        await asyncio.wait({waiting}, timeout=0.3)
        if waiting.done():
            break

    answer = await waiting
    assert time.monotonic() - began < 25
    assert answer.status_code == 200
    assert answer.json()["progress"]["percent"] > 0
    assert api.watches == 0


async def test_a_long_poll_with_an_outdated_etag_returns_at_once(api: Served, task: ClaimedTask) -> None:
    known = (await status(api, task)).headers["etag"]
    await api.report(task, 0, percent=40.0)
    began = time.monotonic()
    answer = await status(api, task, wait=30, known=known)
    assert (answer.status_code, answer.json()["progress"]["percent"]) == (200, 40.0)
    assert time.monotonic() - began < 25


async def test_a_long_poll_with_the_current_etag_returns_at_the_change(
    api: Served, task: ClaimedTask
) -> None:
    known = (await status(api, task)).headers["etag"]
    began = time.monotonic()
    waiting = asyncio.create_task(status(api, task, wait=30, known=known))
    await until(lambda: api.watches == 1)
    await api.succeed(task, 0)
    answer = await waiting
    assert (answer.status_code, answer.json()["state"]) == (200, "Succeeded")
    assert time.monotonic() - began < 25


async def test_a_long_poll_without_change_times_out(api: Served, task: ClaimedTask) -> None:
    first = await status(api, task)
    began = time.monotonic()
    known = await status(api, task, wait=0.3, known=first.headers["etag"])
    unknown = await status(api, task, wait=0.3)
    assert time.monotonic() - began >= 0.6
    assert (known.status_code, known.content) == (304, b"")
    assert known.headers["etag"] == first.headers["etag"]
    assert (unknown.status_code, unknown.json()["state"]) == (200, "Processing")


async def test_a_renewed_lease_does_not_end_a_long_poll(api: Served, task: ClaimedTask) -> None:
    waiting = asyncio.create_task(status(api, task, wait=0.5))
    await until(lambda: api.watches == 1)
    async with api.rows.db.begin() as connection:
        await connection.exec_driver_sql("UPDATE tasks SET renewed_at = clock_timestamp()")
    before = await status(api, task)
    assert (await waiting).headers["etag"] == before.headers["etag"]


async def test_a_long_poll_of_an_ended_task_returns_at_once(api: Served, task: ClaimedTask) -> None:
    await api.succeed(task, 0)
    began = time.monotonic()
    assert (await status(api, task, wait=30)).json()["state"] == "Succeeded"
    assert time.monotonic() - began < 25


@pytest.mark.parametrize("wait", ["-0.1", "30.1", "x", "", "nan", "inf", "-inf", "1e400"])
async def test_a_wait_out_of_bounds_is_refused(api: Served, task: ClaimedTask, wait: str) -> None:
    answer = await api.client.get(f"{api.address(task.lease.task_id)}?wait={wait}")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid-request")


async def test_long_polls_and_streams_hold_no_database_connections(api: Served, task: ClaimedTask) -> None:
    waits = [asyncio.create_task(status(api, task, wait=30)) for _ in range(30)]
    streams = [streaming(api, task) for _ in range(30)]
    received_by_stream = [await stream.__aenter__() for stream in streams]
    await until(lambda: api.watches == 60)
    await until(lambda: all(received_by_stream))

    # The pool has 10 connections; a request without one would get 503 after 5 s.
    assert (await status(api, task)).status_code == 200
    await api.succeed(task, 0, "the only line")

    assert {answer.status_code for answer in await asyncio.gather(*waits)} == {200}
    for stream, received in zip(streams, received_by_stream, strict=True):
        await stream.__aexit__(None, None, None)
        assert lines_of(received) == ["the only line"]
        assert received[-1].name == "end"
    assert api.watches == 0


@pytest.mark.parametrize("path", ["?wait=30", "/events"])
async def test_a_disconnect_ends_the_subscription(api: Served, task: ClaimedTask, path: str) -> None:
    address = httpx.URL(str(api.client.base_url))
    reader, writer = await asyncio.open_connection(address.host, address.port)
    head = [f"GET {api.address(task.lease.task_id)}{path} HTTP/1.1", "Host: x"]
    head.append(f"Authorization: {api.client.headers['Authorization']}")
    writer.write("\r\n".join([*head, "", ""]).encode())
    await until(lambda: api.watches == 1)

    writer.close()

    await until(lambda: api.watches == 0, timeout_s=10)
    assert reader is not None


async def test_a_stream_of_a_busy_task_needs_few_reads(api: Served, task: ClaimedTask) -> None:
    async with streaming(api, task) as received:
        await until(lambda: bool(received))
        began = time.monotonic()
        for number in range(60):
            await api.report(task, number, f"line {number}", percent=float(number + 1))
        await until(lambda: len(lines_of(received)) == 60)
        took_s = time.monotonic() - began
        await api.succeed(task, 60)
    # Each read with a change sends one progress event.
    reads = [event for event in received if event.name == "progress" and event.data["percent"] < 100]
    assert len(reads) <= 2 + took_s / 0.25
    assert lines_of(received) == [f"line {number}" for number in range(60)]


async def test_the_state_comes_first_at_a_start_and_last_at_an_end(api: Served) -> None:
    await api.rows.task()
    task_id = (await api.client.get("/orgs/acme/ds/acme/tasks")).json()[0]["taskId"]
    received: list[Event] = []
    async with api.client.stream("GET", f"/orgs/acme/ds/acme/tasks/{task_id}/events") as response:
        stream = aevents_of(response)
        received += [await anext(stream), await anext(stream)]
        task = await api.rows.claimed(ttl_s=3600)
        await api.report(task, 0, "a", percent=50.0)
        received += [event async for event in _up_to(stream, "progress", 50.0)]
        await api.succeed(task, 1, "b")
        received += [event async for event in stream]
    shown = [event for event in received if event.name != KEEPALIVE]
    last = [event.name for event in shown[-4:]]
    states = [event.data["state"] for event in shown if event.name == "state"]
    assert [event.name for event in shown[:2]] == ["state", "progress"]
    assert last == ["log", "progress", "state", "end"]
    assert states == ["Created", "Processing", "Succeeded"]
    processing = next(n for n, event in enumerate(shown) if event.data.get("state") == "Processing")
    assert processing < next(n for n, event in enumerate(shown) if event.name == "log")


async def _up_to(stream: AsyncIterator[Event], name: str, percent: float) -> AsyncIterator[Event]:
    async for event in stream:
        yield event
        if event.name == name and event.data["percent"] == percent:
            return


def _has_lines(received: list[Event], count: int) -> bool:
    return len(lines_of(received)) == count


async def test_streams_and_long_polls_survive_the_loss_of_the_listen_connection(
    api: Served, task: ClaimedTask, database_url: str
) -> None:
    async with streaming(api, task) as received:
        await until(lambda: bool(received))
        for number in range(5):
            await run_sql(database_url, END_LISTENING)
            # Changes committed while the connection was down are delivered as well.
            await api.report(task, number, f"line {number}")
            await until(partial(_has_lines, received, number + 1), timeout_s=10)
        waiting = asyncio.create_task(status(api, task, wait=30))
        await until(lambda: api.watches == 2)
        await run_sql(database_url, END_LISTENING)
        await api.succeed(task, 5)
        assert (await waiting).json()["state"] == "Succeeded"
    assert lines_of(received) == [f"line {number}" for number in range(5)]
    cursors = [int(event.id) for event in received if event.id is not None]
    assert all(b == a + 1 for a, b in pairwise(cursors))


async def test_a_stream_survives_a_postgres_outage_without_losing_or_repeating_lines(
    settings: Settings, tmp_path: Path
) -> None:
    with OwnedFolder(tmp_path / "postgres") as folder, running_postgres(folder) as postgres:
        await make_template(postgres.url)
        async with fresh_database(postgres.url) as url:
            own = Settings.model_validate({**settings.model_dump(), "database_url": url})
            async with served(own) as api:
                task = await api.running_task()
                async with streaming(api, task) as received:
                    await api.report(task, 0, "before")
                    await until(lambda: lines_of(received) == ["before"])

                    await asyncio.to_thread(postgres.kill)
                    # The stream stays open, whether or not the reconnection wakes it.
                    refused = await status(api, task)
                    assert refused.status_code == 503
                    await asyncio.to_thread(postgres.start)

                    await until_written(api, task)
                    await until(lambda: lines_of(received) == ["before", "after"])
                    await api.succeed(task, 2)
                assert lines_of(received) == ["before", "after"]
                assert received[-1].name == "end"
        folder.discard()


async def until_written(api: Served, task: ClaimedTask) -> None:
    """Write a line as a worker does after an outage: retried until it is committed."""
    async with asyncio.timeout(30):
        while True:
            try:
                await api.report(task, 1, "after")
            except Exception as error:
                if not is_outage(error):
                    raise
                await asyncio.sleep(0.05)
            else:
                return
