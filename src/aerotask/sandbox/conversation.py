"""Conversation with a forked child: one message to it, the events that follow, and its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aerotask.sandbox.protocol import FINAL_KINDS, PARSED, Message, encode, read_message
from aerotask.sandbox.spawner import Child

_ANSWERS = FINAL_KINDS | {PARSED}
EXIT_GRACE_S = 5.0
"""Grace for a child to exit once it has sent its final message or closed its socket."""


async def converse(
    child: Child, job: Message, on_event: Callable[[Message], None] = lambda _event: None
) -> Message | None:
    """Send the job and pass on its events; the final message or request for inputs, or None if the child is lost."""
    try:
        child.writer.write(encode(job))
        await child.writer.drain()
        while (message := await read_message(child.reader)).kind not in _ANSWERS:
            on_event(message)
    except (OSError, EOFError, ValueError, KeyError, TypeError):
        # The socket broke, or a message is malformed: either way the child can't be trusted any more.
        return None
    return message


async def exit_status(child: Child, *, grace_s: float = EXIT_GRACE_S) -> int | None:
    """The child's exit status; None if it still runs after its grace."""
    done, _ = await asyncio.wait({child.exited}, timeout=grace_s)
    return child.exited.result() if done else None
