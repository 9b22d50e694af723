"""Event stream benchmark: memory of the API per idle stream, and the effect on other requests.

    python benchmarks/streams.py [2000]

Each of that many clients follows one of 100 tasks that wait forever, in one API process. Other requests (a status, over four
connections) are timed before and meanwhile, including the keep-alives and permission checks of the streams.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import resource
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil

from aerotask.stack.stack import Stack

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.load import Load, put_under_load, request
from benchmarks.stacks import TASKS, bench, sign_in

FOLLOWED, CONNECTIONS = 100, 4
# Longer than the keep-alive interval (15 s), so that every stream sends one.
SECONDS = 20.0


def main() -> None:
    streams = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, streams + 1000), most))
    # Without a worker the tasks don't change, so every stream is idle.
    with bench() as made, made.stack(workers=0) as ours, sign_in(ours.address) as client:
        auth = {"Authorization": client.headers["Authorization"]}
        print(json.dumps(asyncio.run(measure(ours, auth, waiting_tasks(client), streams)), indent=2))


def waiting_tasks(client: httpx.Client) -> list[str]:
    bodies = [{"toolId": "nothing", "params": {"label": str(n)}} for n in range(FOLLOWED)]
    return [client.post(TASKS, json=body).raise_for_status().json()["taskId"] for body in bodies]


async def measure(stack: Stack, auth: dict[str, str], tasks: list[str], streams: int) -> dict[str, object]:
    assert stack.api is not None
    api = psutil.Process(stack.api.pid)
    status = request("GET", f"{TASKS}/{tasks[0]}", auth)
    # Warm up first, so that later memory growth is due to the streams.
    before = await load(stack.address, status)
    rss_bytes = api.memory_info().rss
    began = time.perf_counter()
    async with open_streams(stack.address, auth, tasks, streams):
        opened_s = time.perf_counter() - began
        grown_bytes = api.memory_info().rss - rss_bytes
        used_s = sum(api.cpu_times()[:2])
        idle_began = time.perf_counter()
        await asyncio.sleep(SECONDS)
        busy = (sum(api.cpu_times()[:2]) - used_s) / (time.perf_counter() - idle_began)
        meanwhile = await load(stack.address, status)
        kept_bytes = api.memory_info().rss - rss_bytes
    return {
        "streams": streams,
        "opened_per_s": round(streams / opened_s),
        "bytes_per_stream": round(grown_bytes / streams),
        "bytes_per_stream_later": round(kept_bytes / streams),
        "cpu_share_while_idle": round(busy, 3),
        "status_without": asdict(before),
        "status_meanwhile": asdict(meanwhile),
    }


async def load(address: str, status: bytes) -> Load:
    def run() -> Load:
        return put_under_load(address, itertools.repeat(status), connections=CONNECTIONS, seconds=SECONDS)

    return await asyncio.to_thread(run)


@asynccontextmanager
async def open_streams(
    address: str, auth: dict[str, str], tasks: list[str], count: int
) -> AsyncIterator[None]:
    """Opens the streams, waits for the first event of each, and reads them for the duration of the block."""
    split = urlsplit(address)
    readers: list[asyncio.Task[bytes]] = []
    writers: list[asyncio.StreamWriter] = []
    opening = asyncio.Semaphore(50)

    async def begin(task: str) -> None:
        async with opening:
            reader, writer = await asyncio.open_connection(split.hostname, split.port)
            writer.write(request("GET", f"{TASKS}/{task}/events", auth))
            await reader.readuntil(b"event: progress")
        writers.append(writer)
        readers.append(asyncio.create_task(reader.read()))

    await asyncio.gather(*(begin(task) for task in itertools.islice(itertools.cycle(tasks), count)))
    try:
        yield
        ended = [reader for reader in readers if reader.done()]
        if ended:
            raise RuntimeError(f"{len(ended)} streams have ended by themselves")
    finally:
        for writer in writers:
            writer.close()
        await asyncio.gather(*readers, return_exceptions=True)


if __name__ == "__main__":
    main()
