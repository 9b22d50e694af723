"""Task event routes: server-sent events, and the log as plain text."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import PlainTextResponse, StreamingResponse

from aerotask.api.deps import PlatformDep, ViewWatcherDep
from aerotask.api.http.errors import problems
from aerotask.api.http.strict_json import StrictRoute
from aerotask.api.tasks.event_stream import EventStream
from aerotask.services.tasks.watch import Watcher, WatchService

router = APIRouter(prefix="/orgs/{orgSlug}/ds/{dsSlug}/tasks", tags=["tasks"], route_class=StrictRoute)

_LAST_CURSOR = 2**62
Since = Annotated[int, Query(ge=0, le=_LAST_CURSOR, description="The log cursor to start at.")]
LastEventId = Annotated[
    int | None,
    Header(ge=0, le=_LAST_CURSOR, description="The log cursor to resume at; overrides `since`."),
]
Line = Annotated[int, Query(ge=0, le=_LAST_CURSOR, description="The number of the first line.")]
_EVENTS = """The events, as `text/event-stream`. The data of each is JSON:

- `state` `{state, waitingFor, attempt, at, reason}`: at the start, and at every change.
- `log` `{cursor, line}`, with the cursor as `id`.
- `truncated` `{cursor, lines}`, with the cursor as `id`: `lines` lines before it are no longer stored.
- `progress` `{percent, phase, message}`.
- `end`: the task's status; the last event, after which the stream closes.

If a stream closes without `end`, reconnect with the last `id` as `Last-Event-ID`."""
STREAM: dict[int | str, dict[str, Any]] = {200: {"description": _EVENTS}}
TEXT: dict[int | str, dict[str, Any]] = {
    200: {"description": "The log lines, each terminated by a line feed."}
}


@router.get(
    "/{taskId}/events",
    response_class=EventStream,
    status_code=200,
    responses=STREAM | problems(400, 401, 404),
)
async def events(
    platform: PlatformDep,
    watcher: ViewWatcherDep,
    since: Since = 0,
    last_event_id: LastEventId = None,
) -> Response:
    """Stream the task's events (server-sent events) until the task has ended."""
    cursor = since if last_event_id is None else last_event_id
    return EventStream(platform.watch, watcher, since=cursor)


@router.get("/{taskId}/output", response_class=PlainTextResponse, responses=TEXT | problems(400, 401, 404))
async def output(
    platform: PlatformDep,
    watcher: ViewWatcherDep,
    line: Line = 0,
) -> Response:
    """Get the task's log as plain text, from line `line` to its current end."""
    pages = _text(platform.watch, watcher, line)
    # Errors must be raised here, before the response starts.
    first = await anext(pages)
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return StreamingResponse(_chained(first, pages), headers=headers, media_type=PlainTextResponse.media_type)


async def _text(service: WatchService, watcher: Watcher, line: int) -> AsyncGenerator[str]:
    async for page in service.log_pages(watcher, since=line):
        yield "".join(f"{text}\n" for text in page.lines)


async def _chained(first: str, rest: AsyncGenerator[str]) -> AsyncGenerator[str]:
    yield first
    async for page in rest:
        yield page
