"""Task updates as server-sent events (HTML standard, section 9.2)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing

from fastapi import Response
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from starlette.types import Receive, Scope, Send

from aerotask.api.tasks.client_disconnect import subscribed
from aerotask.representations.base import ApiModel
from aerotask.representations.task_events import LogEvent, TruncatedEvent, state_event
from aerotask.representations.task_status import progress_response, task_response
from aerotask.services.tasks.watch import TaskUpdate, Watcher, WatchService


class EventStream(Response):
    """Server-sent event stream of a task until the task has ended.

    The streams of FastAPI and Starlette use several asyncio tasks and queues per client, and send the headers
    before an error can become a response.
    """

    media_type = "text/event-stream"

    def __init__(self, service: WatchService, watcher: Watcher, *, since: int) -> None:
        # Otherwise proxies may buffer events, or cache them and serve them to others.
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(headers=headers)
        del self.headers["content-length"]
        self._service = service
        self._watcher = watcher
        self._since = since

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  ASGI's form
        """Sends the stream; errors before the first event become error responses."""
        async with (
            subscribed(receive, self._service.notifications, self._watcher.task_id) as subscription,
            aclosing(self._service.updates(self._watcher, subscription, since=self._since)) as updates,
        ):
            encoder = _EventEncoder()
            body = await _next_body(updates, encoder)
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            while body:
                await send({"type": "http.response.body", "body": body, "more_body": True})
                body = b""  # a waiting stream keeps no body in memory
                body = await _next_body(updates, encoder)
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _next_body(updates: AsyncGenerator[TaskUpdate | None], encoder: _EventEncoder) -> bytes:
    """The next bytes to send, at least a keep-alive comment; empty at the end of the stream."""
    try:
        update = await anext(updates)
    except StopAsyncIteration:
        return b""
    return (b"".join(encoder.encode(update)) if update else b"") or KEEPALIVE_COMMENT


class _EventEncoder:
    """Encodes updates as the events that the client has not received yet."""

    __slots__ = ("_progress", "_state")

    def __init__(self) -> None:
        self._state: tuple[object, ...] | None = None
        self._progress: tuple[object, ...] | None = None

    def encode(self, update: TaskUpdate) -> Iterator[bytes]:
        """The events of an update: the state first, then log and progress, and `end` last."""
        task = update.task
        state = (task.state, task.waits_for, task.attempt)
        if self._state is None or (state != self._state and not task.state.terminal):
            self._state = state
            yield _event("state", state_event(task))
        yield from _log_events(update)
        if (task.percent, task.phase) != self._progress:
            self._progress = (task.percent, task.phase)
            yield _event("progress", progress_response(task))
        if update.is_last:
            if state != self._state:
                yield _event("state", state_event(task))
            yield _event("end", task_response(task))


def _log_events(update: TaskUpdate) -> Iterator[bytes]:
    if update.missed:
        yield _event(
            "truncated", TruncatedEvent(cursor=update.first, lines=update.missed), cursor=update.first
        )
    for cursor, line in enumerate(update.lines, update.first + 1):
        yield _event("log", LogEvent(cursor=cursor, line=line), cursor=cursor)


def _event(name: str, data: ApiModel, *, cursor: int | None = None) -> bytes:
    return format_sse_event(
        event=name,
        data_str=data.model_dump_json(by_alias=True),
        id=None if cursor is None else str(cursor),
    )
