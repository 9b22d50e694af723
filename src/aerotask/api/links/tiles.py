"""Routes behind a link: map tiles, TileJSON and thumbnails."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from aerotask.api.deps import TaskIdPath
from aerotask.api.http.closed_query import ClosedQueryRoute
from aerotask.api.http.errors import problems
from aerotask.api.links.access import PREFIX, LinkCtx, reading
from aerotask.api.tiles import tiles
from aerotask.api.tiles.image_response import image_responses
from aerotask.api.tiles.schemas import TileJsonResponse
from aerotask.api.tiles.tiles import (
    WEBP,
    EntryPathQuery,
    ScaleDep,
    Size,
    StyleDep,
    TileDep,
    Version,
    for_both_scales,
)
from aerotask.domain.access import LinkScope
from aerotask.domain.ids import TaskId

router = APIRouter(prefix=PREFIX, tags=["links"], route_class=ClosedQueryRoute)
_ERRORS = problems(400, 404, 429, 500)
_RESULT_ERRORS = problems(400, 404, 409, 410, 429, 500)


@for_both_scales(router, "/tiles/{z}/{x}/{y}", large_name="get_linked_large_tile", responses=_ERRORS)
async def get_linked_tile(
    link: LinkCtx,
    tile: TileDep,
    scale: ScaleDep,
    style: StyleDep,
    path: EntryPathQuery,
    request: Request,
    version: Version = None,
) -> Response:
    """Get a map tile of a raster by a link."""
    ctx = link.entry(path, to=LinkScope.VIEW)
    return await tiles.get_tile(ctx, link.tile_client, tile, scale, style, path, request, version)


@reading(router, "/tilejson.json", responses=_ERRORS)
async def get_linked_tilejson(
    link: LinkCtx, style: StyleDep, path: EntryPathQuery, request: Request, response: Response
) -> TileJsonResponse:
    """Get a raster's TileJSON by a link; its tile URLs contain the link."""
    ctx = link.entry(path, to=LinkScope.VIEW)
    return await tiles.get_tilejson(ctx, link.tile_client, style, path, request, response)


@for_both_scales(
    router,
    "/tasks/{taskId}/tiles/{z}/{x}/{y}",
    large_name="get_linked_large_result_tile",
    responses=_RESULT_ERRORS,
)
async def get_linked_result_tile(
    link: LinkCtx,
    task_id: TaskIdPath,
    tile: TileDep,
    scale: ScaleDep,
    style: StyleDep,
    request: Request,
    version: Version = None,
) -> Response:
    """Get a map tile of a task's raster result by a link."""
    ctx = link.task(TaskId(task_id), to=LinkScope.VIEW)
    return await tiles.get_result_tile(ctx, link.tile_client, task_id, tile, scale, style, request, version)


@reading(router, "/tasks/{taskId}/tilejson.json", responses=_RESULT_ERRORS)
async def get_linked_result_tilejson(
    link: LinkCtx, task_id: TaskIdPath, style: StyleDep, request: Request, response: Response
) -> TileJsonResponse:
    """Get the TileJSON of a task's raster result by a link; its tile URLs contain the link."""
    ctx = link.task(TaskId(task_id), to=LinkScope.VIEW)
    return await tiles.get_result_tilejson(ctx, link.tile_client, task_id, style, request, response)


@reading(router, "/thumb", response_class=Response, responses=image_responses(WEBP) | _ERRORS)
async def get_linked_thumbnail(
    link: LinkCtx, path: EntryPathQuery, request: Request, size: Size = 256
) -> Response:
    """Get a thumbnail of an entry by a link."""
    ctx = link.entry(path, to=LinkScope.VIEW)
    return await tiles.get_thumbnail(ctx, link.tile_client, path, request, size)
