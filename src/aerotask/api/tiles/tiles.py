"""Routes: map tiles, TileJSON, thumbnails, previews, and tokens for map clients."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Body, Depends, Path, Query, Request, Response

from aerotask.api.deps import DatasetContext, DatasetCtx, TaskIdPath
from aerotask.api.http.errors import problems
from aerotask.api.http.strict_json import StrictRoute
from aerotask.api.tiles.image_response import ELSEWHERE, image_response, image_responses
from aerotask.api.tiles.schemas import NewTileToken, TileJsonResponse, TileTokenResponse
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
    Query(alias="v", max_length=64, description="The content's version, as TileJSON names it, for caches."),
]
Zoom = Annotated[int, Path(alias="z", description="The zoom, 0–24.")]
Column = Annotated[int, Path(alias="x", description="The tile's column, from the west.")]
Row = Annotated[int, Path(alias="y", description="The tile's row, from the north.")]
Size = Annotated[int, Query(alias="size", description="The longer side in pixels; clamped to 16–1024.")]


async def _viewer(
    ctx: DatasetCtx,
    token: Annotated[
        str | None,
        Query(max_length=2048, description="A viewing token, for clients that can't send headers."),
    ] = None,
) -> TileClient:
    return TileClient(ctx.caller, token)


ViewerDep = Annotated[TileClient, Depends(_viewer)]


async def _style(style: Annotated[Style, Query()]) -> Style:
    return style


StyleDep = Annotated[Style, Depends(_style)]


async def _tile_at(z: Zoom, x: Column, y: Row) -> TileIndex:
    return TileIndex(z, x, y)


TileDep = Annotated[TileIndex, Depends(_tile_at)]


def _for_both_scales(
    path: str, *, large_name: str, responses: dict[int | str, dict[str, Any]]
) -> Callable[[_Route], _Route]:
    """Registers a tile route at `path` + `.png`, and for tiles of twice the resolution at `path` + `@2x.png`."""

    def register(endpoint: _Route) -> _Route:
        # The larger ones first: `{y}.png` matches `3@2x.png` as well.
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


@_for_both_scales("/tiles/{z}/{x}/{y}", large_name="get_large_tile", responses=problems(400, 401, 404))
async def get_tile(
    ctx: DatasetCtx,
    viewer: ViewerDep,
    tile: TileDep,
    scale: ScaleDep,
    style: StyleDep,
    path: EntryPathQuery,
    request: Request,
    version: Version = None,
) -> Response:
    """A map tile of a raster (Web Mercator), coloured as raster-export would; 404 outside the raster.

    The tile has 256 × 256 pixels, with `@2x` 512 × 512.
    """
    viewed = await ctx.platform.tiles.entry(viewer, ctx.org, ctx.slug, path)
    return await _tile(ctx, request, viewed, style, tile, version, scale=scale)


@router.get("/tilejson.json", responses=problems(400, 401, 404))
@router.head("/tilejson.json", include_in_schema=False)
async def get_tilejson(
    ctx: DatasetCtx,
    viewer: ViewerDep,
    style: StyleDep,
    path: EntryPathQuery,
    request: Request,
    response: Response,
) -> TileJsonResponse:
    """A raster's TileJSON 3.0.0. Where the dataset isn't open to all, its tile addresses carry a viewing token."""
    viewed = await ctx.platform.tiles.entry(viewer, ctx.org, ctx.slug, path)
    token = ctx.platform.tiles.token_for(viewer, viewed, task_id=None)
    asked = {"path": path, **style.to_json(), "token": token}
    return await _tilejson(ctx, request, response, viewed, style, ctx.address, asked)


@_for_both_scales(
    "/tasks/{taskId}/tiles/{z}/{x}/{y}",
    large_name="get_large_result_tile",
    responses=problems(400, 401, 404, 409, 410),
)
async def get_result_tile(
    ctx: DatasetCtx,
    viewer: ViewerDep,
    task_id: TaskIdPath,
    tile: TileDep,
    scale: ScaleDep,
    style: StyleDep,
    request: Request,
    version: Version = None,
) -> Response:
    """A map tile of a task's raster result (Web Mercator); 404 outside the raster.

    The tile has 256 × 256 pixels, with `@2x` 512 × 512.
    """
    viewed = await ctx.platform.tiles.result(viewer, ctx.org, ctx.slug, TaskId(task_id))
    return await _tile(ctx, request, viewed, style, tile, version, scale=scale)


@router.get("/tasks/{taskId}/tilejson.json", responses=problems(400, 401, 404, 409, 410))
@router.head("/tasks/{taskId}/tilejson.json", include_in_schema=False)
async def get_result_tilejson(
    ctx: DatasetCtx,
    viewer: ViewerDep,
    task_id: TaskIdPath,
    style: StyleDep,
    request: Request,
    response: Response,
) -> TileJsonResponse:
    """The TileJSON 3.0.0 of a task's raster result; its token, where there is one, is for this result alone."""
    viewed = await ctx.platform.tiles.result(viewer, ctx.org, ctx.slug, TaskId(task_id))
    token = ctx.platform.tiles.token_for(viewer, viewed, task_id=TaskId(task_id))
    asked = {**style.to_json(), "token": token}
    return await _tilejson(ctx, request, response, viewed, style, f"{ctx.address}/tasks/{task_id}", asked)


@router.get("/thumb", response_class=Response, responses=image_responses(WEBP) | problems(400, 401, 404))
@router.head("/thumb", include_in_schema=False)
async def get_thumbnail(
    ctx: DatasetCtx, viewer: ViewerDep, path: EntryPathQuery, request: Request, size: Size = 256
) -> Response:
    """A small picture of an entry: of pictures, rasters, GeoJSON, and point clouds from above."""
    size_px = max(SMALLEST_PX, min(size, LARGEST_PX))
    picture = await ctx.platform.tiles.thumbnail(viewer, ctx.org, ctx.slug, path, size_px=size_px)
    return await image_response(request, picture, WEBP, pinned=False)


@router.post("/view-tokens", status_code=201, responses=problems(400, 401, 404, 413))
async def create_view_token(
    ctx: DatasetCtx, body: Annotated[NewTileToken, Body()], response: Response
) -> TileTokenResponse:
    """A short-lived token for map clients that can't send headers: for `?token=` of the routes for viewing alone."""
    task_id = None if body.task_id is None else TaskId(body.task_id)
    made = await ctx.platform.tiles.issue_token(ctx.caller, ctx.org, ctx.slug, task_id=task_id)
    response.headers["Cache-Control"] = "no-store"
    return TileTokenResponse(token=made.token, expires=made.expires_at)


async def _tile(
    ctx: DatasetContext,
    request: Request,
    viewed: TileSource,
    style: Style,
    tile: TileIndex,
    version: str | None,
    *,
    scale: int,
) -> Response:
    picture = ctx.platform.tiles.tile(viewed, style, tile, size_px=TILE_PX * scale)
    return await image_response(request, picture, PNG, pinned=version == viewed.version)


async def _tilejson(
    ctx: DatasetContext,
    request: Request,
    response: Response,
    viewed: TileSource,
    style: Style,
    address: str,
    asked: dict[str, str | None],
) -> TileJsonResponse:
    look = await ctx.platform.tiles.look(viewed, style)
    west, south, east, north = look.place()
    query = urlencode(
        {name: value for name, value in asked.items() if value is not None} | {"v": viewed.version}
    )
    base = f"{str(request.base_url).rstrip('/')}{quote(address)}"
    response.headers.update({**ELSEWHERE, "Cache-Control": "no-store"})
    return TileJsonResponse(
        name=viewed.name,
        tiles=[f"{base}/tiles/{{z}}/{{x}}/{{y}}.png?{query}"],
        bounds=[west, south, east, north],
        center=[(west + east) / 2, (south + north) / 2, look.max_zoom],
        minzoom=look.min_zoom,
        maxzoom=max(look.max_zoom, look.min_zoom),
    )
