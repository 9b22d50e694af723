"""Hints over arq, which is maintenance-only upstream and therefore known to nobody but this module.

Each wake-up has a job id of its own for its task and attempt, no result is kept, nothing is retried: what
arq loses, the workers' look into Postgres finds. The serializer is JSON, since arq's default runs code.
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
# How often a listener asks Redis; half of this is the mean delay of a hint.
POLL_S = 0.02
RETRY_S = 0.5
TIMEOUT_S = 2.0

_log = structlog.get_logger(__name__)


class ArqDispatcher:
    """Sends hints as arq jobs."""

    def __init__(self, redis_url: str) -> None:
        self._redis = _connect(redis_url)

    async def send(self, hints: Sequence[Wakeup]) -> None:
        """Enqueue a job per hint, all in one round trip; a hint that waits in the queue already isn't doubled."""
        # arq's own `enqueue_job` takes three round trips for each.
        async with self._redis.pipeline(transaction=True) as batch:
            for hint in hints:
                _enqueue(batch, hint, now_ms=timestamp_ms())
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


def _enqueue(batch: Pipeline, hint: Wakeup, *, now_ms: int) -> None:
    """As arq does it: the job under its id, and its id in the queue; what is there already stays."""
    job_id, arguments = f"{hint.task_id}:{hint.attempt}", (str(hint.task_id), hint.attempt)
    job = serialize_job(_JOB, arguments, {}, None, now_ms, serializer=orjson.dumps)
    batch.set(job_key_prefix + job_id, job, px=expires_extra_ms, nx=True)
    batch.zadd(QUEUE, {job_id: now_ms}, nx=True)


class ArqListener:
    """Receives hints as an arq worker inside our own process; arq handles no signals and runs no tool."""

    def __init__(self, redis_url: str) -> None:
        self._url = redis_url
        self._worker: Worker | None = None
        self._accepting = True

    def accept(self, *, more: bool) -> None:
        """Let arq pick jobs, or not."""
        self._accepting = more
        if self._worker is not None:
            self._worker.allow_pick_jobs = more

    async def run(self, on_hint: Callable[[Wakeup], None]) -> None:
        """Run arq workers, one after the other: an outage ends one, and the next waits for Redis."""
        while True:
            redis = _connect(self._url)
            try:
                self._worker = _worker(redis, on_hint)
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


def _worker(redis: ArqRedis, on_hint: Callable[[Wakeup], None]) -> Worker:
    async def wake(_context: dict[Any, Any], task_id: str, attempt: int) -> None:
        on_hint(Wakeup(TaskId(UUID(task_id)), attempt))

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
        job_serializer=orjson.dumps,
        job_deserializer=orjson.loads,
    )


def _connect(redis_url: str) -> ArqRedis:
    RedisSettings.from_dsn(redis_url)  # refuses an address that arq would misread
    pool = ConnectionPool.from_url(redis_url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S)
    return ArqRedis(
        pool_or_conn=pool,
        job_serializer=orjson.dumps,
        job_deserializer=orjson.loads,
        default_queue_name=QUEUE,
    )
