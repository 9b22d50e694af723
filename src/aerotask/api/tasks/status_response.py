"""A task's status over HTTP: tagged, answered with 304 to those who have it, held back for those who wait."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from fastapi import Request, Response

from aerotask.api.http.ranges import matches
from aerotask.api.tasks.client_disconnect import watching
from aerotask.representations.task_status import TaskResponse, etag_and_json, task_response
from aerotask.services.tasks.watch import Watcher, WatchService


async def status_response(
    request: Request, service: WatchService, who: Watcher, *, wait_s: float
) -> Response:
    """The status, or 304 if the request names its tag; with `wait_s`, not before it has changed."""
    known = _known(request)
    if wait_s > 0:
        async with watching(request.receive, service.changes, who.task_id) as watch:
            answer = await service.status(who, watch, wait_s=wait_s, known=known)
    else:
        found = await service.tasks.status(await who.ask(), who.org_slug, who.slug, who.task_id)
        answer = task_response(found)
    return _tagged(answer, known)


def _known(request: Request) -> Callable[[str], bool] | None:
    header = request.headers.get("if-none-match")
    return None if header is None else partial(matches, header, weak=True)


def _tagged(answer: TaskResponse, known: Callable[[str], bool] | None) -> Response:
    tag, content = etag_and_json(answer)
    # Weak, since processingTimeMs goes on while nothing else changes.
    headers = {"ETag": f"W/{tag}", "Cache-Control": "no-cache"}
    if known is not None and known(tag):
        return Response(status_code=304, headers=headers)
    return Response(content, 200, headers, "application/json")
