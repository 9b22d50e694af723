"""Task status response with ETag, 304 and long polling."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from fastapi import Request, Response

from aerotask.api.http.ranges import matches
from aerotask.api.tasks.client_disconnect import subscribed
from aerotask.representations.task_status import TaskResponse, etag_and_json, task_response
from aerotask.services.tasks.watch import Watcher, WatchService
from aerotask.store.tasks.tasks import TaskRow


async def status_response(
    request: Request,
    service: WatchService,
    watcher: Watcher,
    *,
    wait_s: float,
    represent: Callable[[TaskRow], TaskResponse] = task_response,
) -> Response:
    """The status, or 304 if it matches If-None-Match; with `wait_s`, held back until the status changes."""
    is_known = _etag_check(request)
    if wait_s > 0:
        async with subscribed(request.receive, service.notifications, watcher.task_id) as subscription:
            status = await service.wait_for_status(
                watcher, subscription, wait_s=wait_s, is_known=is_known, represent=represent
            )
    else:
        task = await service.tasks.status(
            await watcher.reauthenticate(), watcher.org_slug, watcher.slug, watcher.task_id
        )
        status = represent(task)
    return _with_etag(status, is_known)


def _etag_check(request: Request) -> Callable[[str], bool] | None:
    header = request.headers.get("if-none-match")
    return None if header is None else partial(matches, header, weak=True)


def _with_etag(status: TaskResponse, is_known: Callable[[str], bool] | None) -> Response:
    tag, content = etag_and_json(status)
    # Weak, since processingTimeMs changes while everything else stays the same.
    headers = {"ETag": f"W/{tag}", "Cache-Control": "no-cache"}
    if is_known is not None and is_known(tag):
        return Response(status_code=304, headers=headers)
    return Response(content, 200, headers, "application/json")
