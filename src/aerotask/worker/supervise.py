"""One child from its job to its end: events as they come, cancel, time limit, and how it ended."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from signal import SIGKILL, SIGTERM, Signals
from typing import Any

from aerotask.failpoints import failpoint
from aerotask.sandbox.protocol import FINAL_KINDS, Message, encode, read_message
from aerotask.sandbox.spawner import Child, ForkServerGone, Spawner
from aerotask.worker.jobs import Job, ToolJob

# A child that has said its last word gets this long to exit.
EXIT_GRACE_S = 5.0


class ChildEnd(Enum):
    """How a child ended."""

    DONE = auto()
    FAILED = auto()
    STOPPED = auto()
    """We told it to."""
    TIMED_OUT = auto()
    CRASHED = auto()


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of a child: its last event, if it had a last word; else what killed it."""

    how: ChildEnd
    last: Message | None = None
    detail: str = ""


async def supervise(  # noqa: PLR0913  a job, and what may end it
    spawner: Spawner,
    job: Job,
    *,
    on_event: Callable[[Message], None],
    stop: asyncio.Event,
    cancel_grace_s: float,
    timeout_s: float,
) -> Ended:
    """Run the job in a fresh child. When this returns, the child and all it started are gone."""
    try:
        child = await spawner.spawn()
    except (ForkServerGone, TimeoutError) as error:
        return Ended(ChildEnd.CRASHED, detail=f"no child could be started ({error})")
    try:
        if isinstance(job, ToolJob):
            failpoint("child-started")
        return await _follow(
            spawner,
            child,
            job,
            on_event=on_event,
            stop=stop,
            cancel_grace_s=cancel_grace_s,
            timeout_s=timeout_s,
        )
    finally:
        with contextlib.suppress(ForkServerGone):
            spawner.signal(child, SIGKILL)
        await asyncio.shield(child.exited)
        child.writer.close()


async def _follow(  # noqa: PLR0913  as above
    spawner: Spawner,
    child: Child,
    job: Job,
    *,
    on_event: Callable[[Message], None],
    stop: asyncio.Event,
    cancel_grace_s: float,
    timeout_s: float,
) -> Ended:
    told = asyncio.create_task(_converse(child, job, on_event))
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({told, stopped}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if told.done() and not stop.is_set():
            return _ended(told.result(), await _exit_status(child))
        with contextlib.suppress(ForkServerGone):
            spawner.signal(child, SIGTERM)
        await asyncio.wait({child.exited}, timeout=cancel_grace_s)
        return Ended(ChildEnd.STOPPED if stop.is_set() else ChildEnd.TIMED_OUT)
    finally:
        stopped.cancel()
        told.cancel()
        await asyncio.gather(stopped, told, return_exceptions=True)


async def _converse(child: Child, job: Job, on_event: Callable[[Message], None]) -> Message | None:
    """Hand over the job and pass on what the child says; its last word, or None if it had none."""
    try:
        child.writer.write(encode(job.to_message()))
        await child.writer.drain()
        edits: list[Any] = []
        while True:
            event = await read_message(child.reader)
            if event.kind == "edits":
                edits += event.body["edits"]
            elif event.kind in FINAL_KINDS:
                return Message(event.kind, {**event.body, "edits": edits})
            else:
                on_event(event)
    except (OSError, EOFError, ValueError, KeyError, TypeError):
        # The socket broke, or what came over it makes no sense: either way the child is lost.
        return None


async def _exit_status(child: Child) -> int | None:
    done, _ = await asyncio.wait({child.exited}, timeout=EXIT_GRACE_S)
    return child.exited.result() if done else None


def _ended(last: Message | None, status: int | None) -> Ended:
    if last is not None:
        return Ended(ChildEnd.DONE if last.kind == "done" else ChildEnd.FAILED, last)
    return Ended(ChildEnd.CRASHED, detail=_cause(status))


def _cause(status: int | None) -> str:
    if status is None:
        return "it stopped answering"
    if status < 0:
        name = Signals(-status).name if -status in set(Signals) else f"signal {-status}"
        hint = "; the machine may have run out of memory" if -status == SIGKILL else ""
        return f"it was ended by {name}{hint}"
    return f"it exited with status {status} without a result"
