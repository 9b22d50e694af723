"""Routes behind a link: a task's status, log, events, result and assets."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import PlainTextResponse

from aerotask.api.deps import FileName, TaskIdPath
from aerotask.api.http.closed_query import ClosedQueryRoute
from aerotask.api.http.errors import problems
from aerotask.api.links.access import PREFIX, LinkCtx, reading
from aerotask.api.tasks import events, results, tasks
from aerotask.api.tasks.event_stream import EventStream
from aerotask.api.tasks.events import LastEventId, Line, Since
from aerotask.api.tasks.schemas import LogResponse
from aerotask.api.tasks.status_response import status_response
from aerotask.domain.access import LinkScope
from aerotask.domain.ids import TaskId
from aerotask.representations.task_status import AssetResponse, TaskResponse

router = APIRouter(prefix=PREFIX + "/tasks/{taskId}", tags=["links"], route_class=ClosedQueryRoute)

_FILE = {
    "response_class": Response,
    "responses": results.RESULT | problems(400, 403, 404, 409, 410, 412, 416, 429, 500),
}


@reading(router, "", response_model=TaskResponse, responses=tasks.UNCHANGED | problems(400, 404, 429))
async def get_linked_task(
    link: LinkCtx, task_id: TaskIdPath, request: Request, wait: tasks.Wait = 0
) -> Response:
    """Get a task's status by a link; with `wait`, as soon as it changes."""
    watcher = link.watcher(TaskId(task_id))
    return await status_response(request, link.platform.watch, watcher, wait_s=wait)


@reading(router, "/log", responses=problems(400, 404, 429))
async def get_linked_log(
    link: LinkCtx, task_id: TaskIdPath, since: tasks.LogSince = 0, take: tasks.LogTake = 1000
) -> LogResponse:
    """Get lines of a task's log by a link."""
    return await tasks.log(link.task(TaskId(task_id), to=LinkScope.VIEW), task_id, since, take)


@reading(
    router,
    "/events",
    response_class=EventStream,
    status_code=200,
    responses=events.STREAM | problems(400, 404, 429),
)
async def get_linked_events(
    link: LinkCtx,
    task_id: TaskIdPath,
    request: Request,
    since: Since = 0,
    last_event_id: LastEventId = None,
) -> Response:
    """Stream a task's events (server-sent events) by a link, as a browser's EventSource does."""
    watcher = link.watcher(TaskId(task_id))
    if request.method == "HEAD":
        await link.platform.tasks.status(
            await watcher.reauthenticate(), watcher.org_slug, watcher.slug, watcher.task_id
        )
        return Response(media_type=EventStream.media_type)
    return await events.events(link.platform, watcher, since, last_event_id)


@reading(router, "/output", response_class=PlainTextResponse, responses=events.TEXT | problems(400, 404, 429))
async def get_linked_output(link: LinkCtx, task_id: TaskIdPath, line: Line = 0) -> Response:
    """Get a task's log as plain text by a link."""
    return await events.output(link.platform, link.watcher(TaskId(task_id)), line)


@reading(router, "/result", **_FILE)
async def get_linked_result(link: LinkCtx, task_id: TaskIdPath, request: Request) -> Response:
    """Download a task's artifact by a link, in full or in ranges."""
    return await results.result(link.task(TaskId(task_id), to=LinkScope.DOWNLOAD), task_id, request)


@reading(router, "/result/{fileName}", **_FILE)
async def get_linked_named_result(
    link: LinkCtx, task_id: TaskIdPath, file_name: FileName, request: Request
) -> Response:
    """Download a task's artifact by a link, at an address that ends in its file name."""
    ctx = link.task(TaskId(task_id), to=LinkScope.DOWNLOAD)
    return await results.named_result(ctx, task_id, file_name, request)


@reading(router, "/assets", responses=problems(400, 404, 429))
async def list_linked_assets(link: LinkCtx, task_id: TaskIdPath) -> list[AssetResponse]:
    """List the files of a task by a link, with their addresses under the link."""
    ctx = link.task(TaskId(task_id), to=LinkScope.VIEW)
    base = f"{ctx.address}/tasks/{task_id}/assets/"
    return [
        asset.model_copy(update={"url": base + quote(asset.name, safe="")})
        for asset in await results.list_assets(ctx, task_id)
    ]


@reading(router, "/assets/{name}", **_FILE)
async def get_linked_asset(
    link: LinkCtx, task_id: TaskIdPath, name: Annotated[str, Path(max_length=255)], request: Request
) -> Response:
    """Download one of a task's files by a link, in full or in ranges."""
    return await results.asset(link.task(TaskId(task_id), to=LinkScope.DOWNLOAD), task_id, name, request)
