"""A few children that do short jobs for this process: bounded in number, in time and in how many may wait."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGKILL, Signals

import structlog

from aerotask.domain.errors import InvalidInput, Unavailable
from aerotask.sandbox.fair_semaphore import FairSemaphore, QueueFull
from aerotask.sandbox.protocol import Message, encode, read_message
from aerotask.sandbox.spawner import Child, ForkServerGone, Spawner

JOBS_PER_CHILD = 500
"""A child is replaced after so many, whatever it has gathered in its memory."""
MAX_WAIT_S = 30.0
"""A job that hasn't been begun after so long is refused."""
RETRY_AFTER_S = 2
_BROKEN = (OSError, EOFError, ValueError, KeyError, TypeError)

_log = structlog.get_logger(__name__)


class ChildCrashed(Exception):
    """The child ended, or lost its senses, while it was at the job."""


class JobTimeout(Exception):
    """The job wasn't done in time, and its child was killed."""


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """How much a pool may do at once."""

    children: int
    waiting: int
    """How many jobs may wait for a child; one more is refused."""
    job_timeout_s: float
    waiting_each: int | None = None
    """How many of one caller's may wait; as many as of all if None."""


@dataclass(slots=True, eq=False)
class _PooledChild:
    """A child, and how many jobs it has done."""

    child: Child
    generation: int
    jobs: int = 0


@dataclass(slots=True)
class Pool:
    """Children of one program (`sandbox.forkserver`), started when they are first needed."""

    program: str
    limits: PoolLimits
    folder: Path | None = None
    """Where the files are that children may read, if any."""
    _spawner: Spawner = field(init=False)
    _turns: FairSemaphore = field(init=False)
    _idle: list[_PooledChild] = field(default_factory=list)
    _generation: int = 0

    def __post_init__(self) -> None:
        """Make what depends on the other fields."""
        self._spawner = Spawner(self.program, () if self.folder is None else (str(self.folder),))
        self._turns = FairSemaphore(self.limits.children)

    async def run(self, job: Message, *, caller: str = "") -> Message:
        """Have a child do the job, in turn with those of other callers.

        Raises:
            InvalidInput: it can't be done; the child says why.
            Unavailable: too many jobs wait, of all or of this caller (`drawing-busy`), or no child can be started.
            Crashed, JobTimeout: the child is gone; the pool goes on with another.
        """
        try:
            most = self.limits.waiting
            most_each = self.limits.waiting_each or most
            await self._turns.take(caller, most=most, most_each=most_each, within_s=MAX_WAIT_S)
        except (QueueFull, TimeoutError) as error:
            raise _busy() from error
        try:
            seat = await self._seat()
            return await self._do(seat, job)
        finally:
            self._turns.give_back()

    def renew(self) -> None:
        """Give later jobs to children that are started later: the folder is another one by the same name."""
        self._generation += 1

    async def close(self) -> None:
        """Kill all children."""
        idle, self._idle = self._idle, []
        await self._spawner.close()
        for seat in idle:
            await _hang_up(seat.child)

    async def _seat(self) -> _PooledChild:
        while self._idle:
            seat = self._idle.pop()
            if not seat.child.exited.done() and seat.generation == self._generation:
                return seat
            await self._dismiss(seat.child)
        generation = self._generation
        try:
            return _PooledChild(await self._spawner.spawn(), generation)
        except (ForkServerGone, TimeoutError) as error:
            _log.error("pool.no_child", program=self.program, error=str(error))
            raise Unavailable("No process for this can be started; try again in a moment.") from error

    async def _do(self, seat: _PooledChild, job: Message) -> Message:
        usable = False
        try:
            async with asyncio.timeout(self.limits.job_timeout_s):
                answer = await _converse(seat.child, job)
            seat.jobs += 1
            usable = seat.jobs < JOBS_PER_CHILD and not answer.body.get("final")
        except TimeoutError as error:
            _log.warning("pool.timeout", kind=job.kind, limit_s=self.limits.job_timeout_s)
            raise JobTimeout from error
        except _BROKEN as error:
            cause = await self._cause(seat.child)
            _log.warning("pool.crash", kind=job.kind, cause=cause)
            raise ChildCrashed(cause) from error
        finally:
            if usable:
                self._idle.append(seat)
            else:
                await self._dismiss(seat.child)
        if answer.kind == "failed":
            if trace := answer.body.get("trace"):
                _log.error("pool.job_failed", kind=job.kind, trace=trace)
            raise InvalidInput(str(answer.body["message"]), code=str(answer.body["code"]))
        return answer

    async def _dismiss(self, child: Child) -> None:
        with contextlib.suppress(ForkServerGone):
            self._spawner.signal(child, SIGKILL)
        await asyncio.shield(child.exited)
        await _hang_up(child)

    async def _cause(self, child: Child) -> str:
        """What ended the child; one that is still there lost its senses."""
        done, _ = await asyncio.wait({child.exited}, timeout=1)
        if not done:
            return "it makes no sense any more"
        status = child.exited.result()
        return Signals(-status).name if -status in set(Signals) else f"status {status}"


async def _converse(child: Child, job: Message) -> Message:
    child.writer.write(encode(job))
    await child.writer.drain()
    return await read_message(child.reader)


async def _hang_up(child: Child) -> None:
    child.writer.close()
    with contextlib.suppress(OSError):
        await child.writer.wait_closed()


def _busy() -> Unavailable:
    return Unavailable(
        "More pictures are being asked for than can be drawn; try again in a moment.",
        code="drawing-busy",
        retry_after_s=RETRY_AFTER_S,
    )
