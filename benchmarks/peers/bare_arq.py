"""Bare arq worker with an empty job and arq's defaults, timed from enqueue to result."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

from arq.connections import RedisSettings, create_pool
from arq.jobs import Job
from arq.worker import Worker, func

JOBS = 1000


async def nothing(_context: dict[Any, Any]) -> str:
    return "done"


async def result_of(job: Job | None) -> None:
    if job is None:
        raise RuntimeError("the job was not taken")
    await job.result(poll_delay=0.001)


async def main(url: str, rounds: int) -> None:
    settings = RedisSettings.from_dsn(url)
    pool = await create_pool(settings)
    # arq types its jobs by a protocol that demands `__qualname__`, which no function type has.
    job_function = func(nothing, name="nothing")  # type: ignore[arg-type]
    worker = Worker([job_function], redis_settings=settings, handle_signals=False)
    running = asyncio.create_task(worker.async_run())
    took = []
    for _ in range(rounds):
        start = time.perf_counter()
        await result_of(await pool.enqueue_job("nothing"))
        took.append(time.perf_counter() - start)
    start = time.perf_counter()
    jobs = [await pool.enqueue_job("nothing") for _ in range(JOBS)]
    for job in jobs:
        await result_of(job)
    drained = JOBS / (time.perf_counter() - start)
    running.cancel()
    print(json.dumps({"took": took, "drained_per_s": drained}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
