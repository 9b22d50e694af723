"""Result routes: the files that a task made."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response

from aerotask.api.deps import FileName, TaskIdPath, ViewCtx
from aerotask.api.http.closed_query import ClosedQueryRoute
from aerotask.api.http.cross_origin import allow_cross_origin
from aerotask.api.http.errors import problems
from aerotask.api.http.file_response import file_response
from aerotask.domain.ids import TaskId
from aerotask.representations.task_status import AssetResponse, asset_response
from aerotask.services.tasks.tasks import OpenArtifact

router = APIRouter(prefix="/orgs/{orgSlug}/ds/{dsSlug}/tasks", tags=["tasks"], route_class=ClosedQueryRoute)

RESULT: dict[int | str, dict[str, Any]] = {
    200: {"description": "The artifact.", "content": {"*/*": {}}},
    206: {"description": "The requested ranges.", "content": {"*/*": {}}},
    304: {"description": "The client's copy is current."},
}


@router.get("/{taskId}/result", responses=RESULT | problems(400, 401, 404, 409, 410, 412, 416, 500))
@router.head("/{taskId}/result", include_in_schema=False)
async def result(ctx: ViewCtx, task_id: TaskIdPath, request: Request) -> Response:
    """Download the task's artifact, in full or in ranges."""
    opened = await ctx.platform.tasks.open_result(ctx.caller, ctx.org, ctx.slug, TaskId(task_id))
    return await _download(request, opened)


@router.get(
    "/{taskId}/result/{fileName}",
    response_class=Response,
    responses=RESULT | problems(400, 401, 404, 409, 410, 412, 416, 500),
)
@router.head("/{taskId}/result/{fileName}", include_in_schema=False)
async def named_result(ctx: ViewCtx, task_id: TaskIdPath, file_name: FileName, request: Request) -> Response:
    """Download the task's artifact, at an address that ends in its file name."""
    opened = await ctx.platform.tasks.open_result(
        ctx.caller, ctx.org, ctx.slug, TaskId(task_id), file_name=file_name
    )
    return await _download(request, opened)


async def _download(request: Request, opened: OpenArtifact) -> Response:
    if opened.allows_anonymous:
        allow_cross_origin(request)
    return await file_response(
        request,
        opened.content,
        file_name=opened.row.file_name,
        media_type=opened.row.media_type,
        sha256=opened.row.sha256,
    )


@router.get("/{taskId}/assets", responses=problems(400, 401, 404))
async def list_assets(ctx: ViewCtx, task_id: TaskIdPath) -> list[AssetResponse]:
    """List the files that the task offers for download, its result first."""
    task, offered = await ctx.platform.tasks.assets(ctx.caller, ctx.org, ctx.slug, TaskId(task_id))
    return [asset_response(task, asset) for asset in offered]


@router.get("/{taskId}/assets/{name}", responses=RESULT | problems(400, 401, 404, 409, 410, 412, 416, 500))
@router.head("/{taskId}/assets/{name}", include_in_schema=False)
async def asset(
    ctx: ViewCtx, task_id: TaskIdPath, name: Annotated[str, Path(max_length=255)], request: Request
) -> Response:
    """Download one of the task's files, in full or in ranges."""
    opened = await ctx.platform.tasks.open_asset(ctx.caller, ctx.org, ctx.slug, TaskId(task_id), name)
    return await _download(request, opened)
