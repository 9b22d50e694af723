"""A task's news as server-sent events (HTML standard, section 9.2)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing

from fastapi import Response
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from starlette.types import Receive, Scope, Send

from aerotask.api.tasks.client_disconnect import watching
from aerotask.representations.base import ApiModel
from aerotask.representations.task_events import LogEvent, TruncatedEvent, state_event
from aerotask.representations.task_status import progress_response, task_response
from aerotask.services.tasks.watch import TaskUpdate, Watcher, WatchService


class EventStream(Response):
    """Sends a task's events until its end.

    Neither FastAPI's own streams nor Starlette's, since those take several tasks and queues per client,
    and send the headers before anything can be refused.
    """

    media_type = "text/event-stream"

    def __init__(self, service: WatchService, who: Watcher, *, since: int) -> None:
        # A proxy that gathered or kept events would deliver them late or to others.
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(headers=headers)
        del self.headers["content-length"]
        self._service = service
        self._who = who
        self._since = since

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  ASGI's form
        """Answer; what is wrong at the beginning becomes an answer of its own."""
        async with (
            watching(receive, self._service.changes, self._who.task_id) as watch,
            aclosing(self._service.follow(self._who, watch, since=self._since)) as following,
        ):
            teller = _EventEncoder()
            body = await _next(following, teller)
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            while body:
                await send({"type": "http.response.body", "body": body, "more_body": True})
                body = b""  # a stream that waits holds nothing
                body = await _next(following, teller)
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _next(following: AsyncGenerator[TaskUpdate | None], teller: _EventEncoder) -> bytes:
    """What is to be sent next; nothing when the stream has ended."""
    try:
        news = await anext(following)
    except StopAsyncIteration:
        return b""
    return (b"".join(teller.tell(news)) if news else b"") or KEEPALIVE_COMMENT


class _EventEncoder:
    """Turns news into the events that its client has not had yet."""

    __slots__ = ("_progress", "_state")

    def __init__(self) -> None:
        self._state: tuple[object, ...] | None = None
        self._progress: tuple[object, ...] | None = None

    def tell(self, news: TaskUpdate) -> Iterator[bytes]:
        """The events: the state comes before what happened in it, and an end after everything else."""
        task = news.task
        state = (task.state, task.waits_for, task.attempt)
        if self._state is None or (state != self._state and not task.state.terminal):
            self._state = state
            yield _event("state", state_event(task))
        yield from _log_events(news)
        if (task.percent, task.phase) != self._progress:
            self._progress = (task.percent, task.phase)
            yield _event("progress", progress_response(task))
        if news.last:
            if state != self._state:
                yield _event("state", state_event(task))
            yield _event("end", task_response(task))


def _log_events(news: TaskUpdate) -> Iterator[bytes]:
    if news.missed:
        yield _event("truncated", TruncatedEvent(cursor=news.first, lines=news.missed), cursor=news.first)
    for cursor, line in enumerate(news.lines, news.first + 1):
        yield _event("log", LogEvent(cursor=cursor, line=line), cursor=cursor)


def _event(name: str, data: ApiModel, *, cursor: int | None = None) -> bytes:
    return format_sse_event(
        event=name,
        data_str=data.model_dump_json(by_alias=True),
        id=None if cursor is None else str(cursor),
    )
