"""Pool of children for short jobs, bounded in processes, time and queue length."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from aerotask.domain.errors import CauseInChild, InvalidInput, Unavailable
from aerotask.sandbox.conversation import converse, exit_status
from aerotask.sandbox.exit_status import describe_exit
from aerotask.sandbox.fair_semaphore import FairSemaphore, QueueFull
from aerotask.sandbox.memory_watch import limit_of_all
from aerotask.sandbox.protocol import Message
from aerotask.sandbox.spawner import Child, ForkServerGone, Spawner

JOBS_PER_CHILD = 500
"""A child is replaced after so many jobs, because its memory may have grown."""
MAX_WAIT_S = 30.0
"""A job that hasn't been started after so long is refused."""
RETRY_AFTER_S = 2
CRASH_GRACE_S = 1.0
"""Grace for a lost child to exit; until then it keeps its place in the pool, and a request waits."""

_log = structlog.get_logger(__name__)


class ChildCrashed(Exception):
    """The child ended, or sent a malformed message, during the job."""


class JobTimeout(Exception):
    """The job took too long, and its child was killed."""


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """Limits of a pool."""

    children: int
    max_waiting: int
    """Jobs that may wait for a child; further ones are refused."""
    job_timeout_s: float
    max_waiting_per_caller: int | None = None
    """Jobs of one caller that may wait; None for as many as in total."""
    memory_bytes: int | None = None
    """The memory limit that the program sets a process, if all that a child starts is to be watched."""


@dataclass(slots=True, eq=False)
class _PooledChild:
    """A child, and how many jobs it has done."""

    child: Child
    generation: int
    jobs: int = 0


@dataclass(slots=True)
class Pool:
    """Children of one fork server program, started when they are first needed."""

    program: str
    limits: PoolLimits
    folder: Path | None = None
    """The folder that children may read, if any."""
    _spawner: Spawner = field(init=False)
    _semaphore: FairSemaphore = field(init=False)
    _idle: list[_PooledChild] = field(default_factory=list)
    _generation: int = 0

    def __post_init__(self) -> None:
        """Create the spawner and the semaphore."""
        self._spawner = Spawner(self.program, () if self.folder is None else (str(self.folder),))
        self._semaphore = FairSemaphore(self.limits.children)

    async def run(self, job: Message, *, caller: str = "") -> Message:
        """Run the job in a child, in turn with the jobs of other callers.

        Raises:
            InvalidInput: the child refused the job.
            Unavailable: too many jobs wait, in total or from this caller (`drawing-busy`), or no child can be started.
            ChildCrashed, JobTimeout: the child is lost; the next job gets another.
        """
        limits = self.limits
        try:
            await self._semaphore.acquire(
                caller,
                max_waiting=limits.max_waiting,
                max_waiting_per_caller=limits.max_waiting_per_caller or limits.max_waiting,
                timeout_s=MAX_WAIT_S,
            )
        except (QueueFull, TimeoutError) as error:
            raise _busy() from error
        try:
            pooled = await self._idle_or_new()
            return await self._run(pooled, job)
        finally:
            self._semaphore.release()

    def renew(self) -> None:
        """Retire idle children: the shared folder was recreated and they are confined to the old one."""
        self._generation += 1

    async def close(self) -> None:
        """Kill all children."""
        idle, self._idle = self._idle, []
        await self._spawner.close()
        for pooled in idle:
            await self._spawner.end(pooled.child)

    async def _idle_or_new(self) -> _PooledChild:
        while self._idle:
            pooled = self._idle.pop()
            if not pooled.child.exited.done() and pooled.generation == self._generation:
                return pooled
            await self._spawner.end(pooled.child)
        generation = self._generation
        try:
            child = await self._spawner.spawn()
            if self.limits.memory_bytes is not None:
                self._spawner.watch_memory(child, limit_of_all(self.limits.memory_bytes, processes=2))
            return _PooledChild(child, generation)
        except (ForkServerGone, TimeoutError) as error:
            _log.error("pool.spawn_failed", program=self.program, error=str(error))
            raise Unavailable("No process can be started for this; try again in a moment.") from error

    async def _run(self, pooled: _PooledChild, job: Message) -> Message:
        usable = False
        try:
            async with asyncio.timeout(self.limits.job_timeout_s):
                result = await converse(pooled.child, job)
            if result is None:
                cause = describe_exit(await exit_status(pooled.child, grace_s=CRASH_GRACE_S))
                if pooled.child.memory_exceeded:
                    cause = "its processes used too much memory together"
                _log.warning("pool.child_crashed", kind=job.kind, cause=cause)
                raise ChildCrashed(cause)
            pooled.jobs += 1
            usable = pooled.jobs < JOBS_PER_CHILD and not result.body.get("final")
        except TimeoutError as error:
            _log.warning("pool.job_timed_out", kind=job.kind, limit_s=self.limits.job_timeout_s)
            raise JobTimeout from error
        finally:
            if usable:
                self._idle.append(pooled)
            else:
                await self._spawner.end(pooled.child)
        if result.kind != "done":
            told = result.body.get("cause")
            raise _refusal(job, result.body) from (CauseInChild(told) if told else None)
        return result


def _refusal(job: Message, body: Mapping[str, Any]) -> InvalidInput:
    if trace := body.get("trace"):
        _log.error("pool.job_failed", kind=job.kind, trace=trace)
    # Nothing is certain to be there: a compromised child sends what it likes.
    message = str(body.get("message", "It can't be drawn."))
    return InvalidInput(message, code=str(body.get("code", "drawing-failed")))


def _busy() -> Unavailable:
    return Unavailable(
        "Too many images are being requested; try again in a moment.",
        code="drawing-busy",
        retry_after_s=RETRY_AFTER_S,
    )
