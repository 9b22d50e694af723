"""Supervision of one child: its job, events, cancellation, time limit, and how it ended."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum, auto
from signal import SIGTERM
from typing import Any

import structlog

from aerotask.aio import cancel_and_wait
from aerotask.failpoints import failpoint
from aerotask.sandbox.conversation import converse, exit_status
from aerotask.sandbox.exit_status import describe_exit
from aerotask.sandbox.memory_watch import limit_of_all
from aerotask.sandbox.protocol import PARSED, Message
from aerotask.sandbox.spawner import Child, ForkServerGone, Spawner
from aerotask.worker.jobs import Job, ToolInputs, ToolJob, ToolNeeds

_log = structlog.get_logger(__name__)


class ChildEnd(Enum):
    """Ways in which a child ends."""

    DONE = auto()
    FAILED = auto()
    STOPPED = auto()
    """The worker stopped it."""
    TIMED_OUT = auto()
    CRASHED = auto()


@dataclass(frozen=True, slots=True)
class Ended:
    """End of a child: its final message, or what killed it."""

    how: ChildEnd
    last: Message | None = None
    detail: str = ""
    signal: int | None = None
    """The signal that ended it without a result."""


_OUT_OF_MEMORY = Ended(
    ChildEnd.FAILED,
    Message(
        "failed",
        {
            "code": "out-of-memory",
            "message": "The tool's processes needed more memory together than planned; try a smaller input, or report it.",
            "retryable": False,
            "again": False,
        },
    ),
)


async def _no_inputs(_needs: ToolNeeds) -> ToolInputs:
    return ToolInputs()


async def supervise(  # noqa: PLR0913  a job, and what may end it
    spawner: Spawner,
    job: Job,
    *,
    on_event: Callable[[Message], None],
    stop: asyncio.Event,
    cancel_grace_s: float,
    timeout_s: float,
    inputs_for: Callable[[ToolNeeds], Awaitable[ToolInputs]] = _no_inputs,
) -> Ended:
    """Run the job in a fresh child. When this returns, the child and every process it started are gone.

    `inputs_for` prepares the inputs of a tool's run once its child has validated the params.

    Raises:
        The error of `inputs_for`.
    """
    try:
        child = await spawner.spawn()
    except (ForkServerGone, TimeoutError) as error:
        _log.error("child.not_started", error=str(error) or type(error).__name__)
        return Ended(ChildEnd.CRASHED, detail="no process could be started for it")
    edits: list[Any] = []
    # As many processes as the tool may use threads, beside the child.
    processes = 1 + (job.threads if isinstance(job, ToolJob) else 0)
    spawner.watch_memory(child, limit_of_all(job.memory_bytes, processes=processes))

    def on_message(event: Message) -> None:
        if event.kind == "edits":
            edits.extend(event.body["edits"])
        else:
            on_event(event)

    try:
        if isinstance(job, ToolJob):
            failpoint("child-started")
        result = asyncio.create_task(_run(child, job, on_message, inputs_for))
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({result, stopped}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if result.done() and not stop.is_set():
                if child.memory_exceeded:
                    return _OUT_OF_MEMORY
                return _ended(result.result(), edits, await exit_status(child))
            # Its messages are still read, or a child that writes more of them would block instead of ending.
            spawner.signal(child, SIGTERM)
            await asyncio.wait({child.exited}, timeout=cancel_grace_s)
            return Ended(ChildEnd.STOPPED if stop.is_set() else ChildEnd.TIMED_OUT)
        finally:
            await cancel_and_wait(stopped, result)
    finally:
        await spawner.end(child)


async def _run(
    child: Child,
    job: Job,
    on_message: Callable[[Message], None],
    inputs_for: Callable[[ToolNeeds], Awaitable[ToolInputs]],
) -> Message | None:
    answer = await converse(child, job.to_message(), on_message)
    if answer is None or answer.kind != PARSED:
        return answer
    inputs = await inputs_for(ToolNeeds.from_body(answer.body))
    return await converse(child, inputs.to_message(), on_message)


def _ended(last: Message | None, edits: list[Any], status: int | None) -> Ended:
    if last is None:
        killed_by = -status if status is not None and status < 0 else None
        return Ended(ChildEnd.CRASHED, detail=describe_exit(status), signal=killed_by)
    how = ChildEnd.DONE if last.kind == "done" else ChildEnd.FAILED
    return Ended(how, Message(last.kind, {**last.body, "edits": edits}))
