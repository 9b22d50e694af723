"""Wake-up queue over arq; only this module knows arq, which is maintenance-only upstream.

The job id is made of task and attempt, results are not kept, nothing is retried: workers find what arq loses by
polling Postgres. The serializer is JSON, since arq's default (pickle) executes code.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import orjson
import structlog
from arq.connections import ArqRedis, RedisSettings
from arq.constants import expires_extra_ms, job_key_prefix
from arq.jobs import serialize_job
from arq.utils import timestamp_ms
from arq.worker import Worker, func
from redis.asyncio import ConnectionPool
from redis.asyncio.client import Pipeline
from redis.exceptions import RedisError

from aerotask.aio import cancel_and_wait
from aerotask.dispatch.dispatcher import QueueAway, Wakeup
from aerotask.domain.ids import TaskId

QUEUE = "aerotask:hints"
_JOB = "wake"
# Poll interval of a listener; half of it is the mean delay of a wakeup.
POLL_S = 0.04
RETRY_S = 0.5
TIMEOUT_S = 2.0

_log = structlog.get_logger(__name__)


class ArqDispatcher:
    """Sends wakeups as arq jobs."""

    def __init__(self, redis_url: str) -> None:
        self._redis = _connect(redis_url)

    async def send(self, wakeups: Sequence[Wakeup]) -> None:
        """Enqueue one job per wakeup in a single round trip; one that is already queued isn't duplicated."""
        # arq's own `enqueue_job` takes three round trips per job.
        async with self._redis.pipeline(transaction=True) as batch:
            for wakeup in wakeups:
                _enqueue(batch, wakeup, now_ms=timestamp_ms())
            try:
                await batch.execute()
            except (RedisError, OSError) as error:
                raise QueueAway(f"Redis: {error}") from error

    async def ping(self) -> None:
        """Send PING."""
        try:
            await self._redis.ping()
        except (RedisError, OSError) as error:
            raise QueueAway(f"Redis: {error}") from error

    async def close(self) -> None:
        """Close the pool."""
        await self._redis.aclose(close_connection_pool=True)


def _enqueue(batch: Pipeline, wakeup: Wakeup, *, now_ms: int) -> None:
    """Store the job under its id and add the id to the queue, as arq does; existing ones stay."""
    job_id, arguments = f"{wakeup.task_id}:{wakeup.attempt}", (str(wakeup.task_id), wakeup.attempt)
    job = serialize_job(_JOB, arguments, {}, None, now_ms, serializer=_serialize)
    batch.set(job_key_prefix + job_id, job, px=expires_extra_ms, nx=True)
    batch.zadd(QUEUE, {job_id: now_ms}, nx=True)


class ArqListener:
    """Receives wakeups with an arq worker in our own process; it handles no signals and runs no tools."""

    def __init__(self, redis_url: str) -> None:
        self._url = redis_url
        self._worker: Worker | None = None
        self._accepting = True

    def accept(self, *, more: bool) -> None:
        """Let arq pick jobs, or stop it from doing so."""
        self._accepting = more
        if self._worker is not None:
            self._worker.allow_pick_jobs = more

    async def run(self, on_wakeup: Callable[[Wakeup], None]) -> None:
        """Run one arq worker after the other: an outage of Redis ends one, and the next reconnects."""
        while True:
            redis = _connect(self._url)
            try:
                self._worker = _worker(redis, on_wakeup)
                self._worker.allow_pick_jobs = self._accepting
                await _run(self._worker)
            except (RedisError, OSError) as error:
                _log.warning("hints.unavailable", error=str(error), retry_s=RETRY_S)
            finally:
                self._worker = None
                await redis.aclose(close_connection_pool=True)
            await asyncio.sleep(RETRY_S)


async def _run(worker: Worker) -> None:
    running = asyncio.create_task(worker.async_run())
    try:
        await asyncio.shield(running)
    finally:
        await cancel_and_wait(running)
        await asyncio.gather(*worker.tasks.values(), return_exceptions=True)


def _worker(redis: ArqRedis, on_wakeup: Callable[[Wakeup], None]) -> Worker:
    async def wake(_context: dict[Any, Any], task_id: str, attempt: int) -> None:
        on_wakeup(Wakeup(TaskId(UUID(task_id)), attempt))

    # arq types its jobs by a protocol that demands `__qualname__`, which no function type has.
    job = func(wake, name=_JOB, keep_result=0, max_tries=1)  # type: ignore[arg-type]
    return Worker(
        [job],
        redis_pool=redis,
        queue_name=QUEUE,
        handle_signals=False,
        poll_delay=POLL_S,
        job_timeout=TIMEOUT_S,
        retry_jobs=False,
        log_results=False,
        job_serializer=_serialize,
        job_deserializer=orjson.loads,
    )


def _serialize(value: Any) -> bytes:
    """JSON; the exceptions that arq stores as the results of expired jobs become their text."""
    return orjson.dumps(value, default=str)


def _connect(redis_url: str) -> ArqRedis:
    RedisSettings.from_dsn(redis_url)  # raises for an address that arq would misread
    pool = ConnectionPool.from_url(redis_url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S)
    return ArqRedis(
        pool_or_conn=pool,
        job_serializer=_serialize,
        job_deserializer=orjson.loads,
        default_queue_name=QUEUE,
    )
