"""Tile routes: map tiles, TileJSON, thumbnails, previews and tokens for map clients."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Body, Depends, Path, Query, Request, Response

from aerotask.api.deps import DatasetContext, DatasetCtx, TaskIdPath, ViewTokenQuery
from aerotask.api.http.cross_origin import CROSS_ORIGIN
from aerotask.api.http.errors import problems
from aerotask.api.http.strict_json import StrictRoute
from aerotask.api.tiles.image_response import image_response, image_responses
from aerotask.api.tiles.schemas import NewViewToken, TileJsonResponse, ViewTokenResponse
from aerotask.domain.ids import TaskId
from aerotask.services.tiles.tiles import TileClient, TileSource
from aerotask.tiles.style import Style
from aerotask.tiles.tile_matrix import TileIndex

router = APIRouter(prefix="/orgs/{orgSlug}/ds/{dsSlug}", tags=["viewing"], route_class=StrictRoute)

_Route = TypeVar("_Route", bound=Callable[..., Awaitable[Response]])
PNG, WEBP = "image/png", "image/webp"
TILE_PX = 256
SMALLEST_PX, LARGEST_PX = 16, 1024

EntryPathQuery = Annotated[str, Query(alias="path", max_length=1024, description="The entry's path.")]
Version = Annotated[
    str | None,
    Query(
        alias="v",
        max_length=64,
        description="The content's version, as in TileJSON; makes the response cacheable.",
    ),
]
Zoom = Annotated[int, Path(alias="z", description="The zoom level, 0–24.")]
Column = Annotated[int, Path(alias="x", description="The tile's column, from the west.")]
Row = Annotated[int, Path(alias="y", description="The tile's row, from the north.")]
Size = Annotated[int, Query(alias="size", description="The longer side in pixels; clamped to 16–1024.")]


async def _client(
    ctx: DatasetCtx,
    token: ViewTokenQuery = None,
) -> TileClient:
    return TileClient(ctx.caller, token)


ClientDep = Annotated[TileClient, Depends(_client)]


async def _style(style: Annotated[Style, Query()]) -> Style:
    return style


StyleDep = Annotated[Style, Depends(_style)]


async def _tile_index(z: Zoom, x: Column, y: Row) -> TileIndex:
    return TileIndex(z, x, y)


TileDep = Annotated[TileIndex, Depends(_tile_index)]


def for_both_scales(
    router: APIRouter, path: str, *, large_name: str, responses: dict[int | str, dict[str, Any]]
) -> Callable[[_Route], _Route]:
    """Registers a tile route at `path` + `.png`, and for tiles of twice the resolution at `path` + `@2x.png`."""

    def register(endpoint: _Route) -> _Route:
        # `@2x` first, since `{y}.png` would match `3@2x.png` as well.
        for address, name in ((f"{path}@2x.png", large_name), (f"{path}.png", endpoint.__name__)):
            router.add_api_route(address, endpoint, methods=["HEAD"], include_in_schema=False)
            router.add_api_route(
                address,
                endpoint,
                name=name,
                response_class=Response,
                responses=image_responses(PNG) | responses,
            )
        return endpoint

    return register


async def _scale(request: Request) -> int:
    return 2 if request.scope["path"].endswith("@2x.png") else 1


ScaleDep = Annotated[int, Depends(_scale)]


@for_both_scales(
    router, "/tiles/{z}/{x}/{y}", large_name="get_large_tile", responses=problems(400, 401, 404, 500)
)
async def get_tile(
    ctx: DatasetCtx,
    client: ClientDep,
    tile: TileDep,
    scale: ScaleDep,
    style: StyleDep,
    path: EntryPathQuery,
    request: Request,
    version: Version = None,
) -> Response:
    """Get a map tile of a raster (Web Mercator), coloured as raster-export would; 404 outside the raster.

    The tile has 256 × 256 pixels, with `@2x` 512 × 512.
    """
    source = await ctx.platform.tiles.entry(client, ctx.org, ctx.slug, path)
    return await _tile(ctx, request, source, style, tile, version, scale=scale)


@router.get("/tilejson.json", responses=problems(400, 401, 404, 500))
@router.head("/tilejson.json", include_in_schema=False)
async def get_tilejson(
    ctx: DatasetCtx,
    client: ClientDep,
    style: StyleDep,
    path: EntryPathQuery,
    request: Request,
    response: Response,
) -> TileJsonResponse:
    """Get a raster's TileJSON 3.0.0; unless the dataset is public or unlisted, its tile URLs contain a view token."""
    source = await ctx.platform.tiles.entry(client, ctx.org, ctx.slug, path)
    token = ctx.platform.tiles.token_for(client, source, task_id=None)
    query_params = {"path": path, **style.to_json(), "token": token}
    return await _tilejson(ctx, request, response, source, style, ctx.address, query_params)


@for_both_scales(
    router,
    "/tasks/{taskId}/tiles/{z}/{x}/{y}",
    large_name="get_large_result_tile",
    responses=problems(400, 401, 404, 409, 410, 500),
)
async def get_result_tile(
    ctx: DatasetCtx,
    client: ClientDep,
    task_id: TaskIdPath,
    tile: TileDep,
    scale: ScaleDep,
    style: StyleDep,
    request: Request,
    version: Version = None,
) -> Response:
    """Get a map tile of a task's raster result (Web Mercator); 404 outside the raster.

    The tile has 256 × 256 pixels, with `@2x` 512 × 512.
    """
    source = await ctx.platform.tiles.result(client, ctx.org, ctx.slug, TaskId(task_id))
    return await _tile(ctx, request, source, style, tile, version, scale=scale)


@router.get("/tasks/{taskId}/tilejson.json", responses=problems(400, 401, 404, 409, 410, 500))
@router.head("/tasks/{taskId}/tilejson.json", include_in_schema=False)
async def get_result_tilejson(
    ctx: DatasetCtx,
    client: ClientDep,
    task_id: TaskIdPath,
    style: StyleDep,
    request: Request,
    response: Response,
) -> TileJsonResponse:
    """Get the TileJSON 3.0.0 of a task's raster result; its token, if any, is only for this result."""
    source = await ctx.platform.tiles.result(client, ctx.org, ctx.slug, TaskId(task_id))
    token = ctx.platform.tiles.token_for(client, source, task_id=TaskId(task_id))
    query_params = {**style.to_json(), "token": token}
    return await _tilejson(
        ctx, request, response, source, style, f"{ctx.address}/tasks/{task_id}", query_params
    )


@router.get("/thumb", response_class=Response, responses=image_responses(WEBP) | problems(400, 401, 404, 500))
@router.head("/thumb", include_in_schema=False)
async def get_thumbnail(
    ctx: DatasetCtx, client: ClientDep, path: EntryPathQuery, request: Request, size: Size = 256
) -> Response:
    """Get a thumbnail of an image, raster, GeoJSON file or point cloud."""
    size_px = max(SMALLEST_PX, min(size, LARGEST_PX))
    image = await ctx.platform.tiles.thumbnail(client, ctx.org, ctx.slug, path, size_px=size_px)
    return await image_response(request, image, WEBP, versioned=False)


@router.post("/view-tokens", status_code=201, responses=problems(400, 401, 404, 413))
async def create_view_token(
    ctx: DatasetCtx, body: Annotated[NewViewToken, Body()], response: Response
) -> ViewTokenResponse:
    """Create a short-lived view token, for clients that can't send headers: valid as `?token=` of what only shows a dataset.

    These are tiles, TileJSON, thumbnails, objects and derivatives, and results, assets, log, output and events of tasks.
    """
    task_id = None if body.task_id is None else TaskId(body.task_id)
    token = await ctx.platform.tiles.issue_token(ctx.caller, ctx.org, ctx.slug, task_id=task_id)
    response.headers["Cache-Control"] = "no-store"
    return ViewTokenResponse(token=token.token, expires=token.expires_at)


async def _tile(
    ctx: DatasetContext,
    request: Request,
    source: TileSource,
    style: Style,
    tile: TileIndex,
    version: str | None,
    *,
    scale: int,
) -> Response:
    image = ctx.platform.tiles.tile(source, style, tile, size_px=TILE_PX * scale)
    return await image_response(request, image, PNG, versioned=source.is_final and version == source.version)


async def _tilejson(
    ctx: DatasetContext,
    request: Request,
    response: Response,
    source: TileSource,
    style: Style,
    base_path: str,
    query_params: dict[str, str | None],
) -> TileJsonResponse:
    info = await ctx.platform.tiles.render_info(source, style)
    west, south, east, north = info.require_bounds()
    query = urlencode(
        {name: value for name, value in query_params.items() if value is not None} | {"v": source.version}
    )
    base = f"{str(request.base_url).rstrip('/')}{quote(base_path)}"
    response.headers.update({**CROSS_ORIGIN, "Cache-Control": "no-store"})
    return TileJsonResponse(
        name=source.name,
        tiles=[f"{base}/tiles/{{z}}/{{x}}/{{y}}.png?{query}"],
        bounds=[west, south, east, north],
        center=[(west + east) / 2, (south + north) / 2, info.max_zoom],
        minzoom=0,
        maxzoom=info.max_zoom,
    )
