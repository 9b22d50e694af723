"""Tree routes: rename, copy and search the entries of a dataset."""

from __future__ import annotations

from fastapi import APIRouter, Response

from aerotask.api.datasets.entries import created, entry_response
from aerotask.api.datasets.entry_schemas import EntryResponse, FromTo, SearchBody, SearchResponse
from aerotask.api.deps import DatasetCtx
from aerotask.api.http.errors import problems
from aerotask.api.http.strict_json import StrictRoute
from aerotask.domain import paths
from aerotask.domain.errors import InvalidInput
from aerotask.store.datasets.search import BoundingBox, EntryFilter

router = APIRouter(prefix="/orgs/{orgSlug}/ds/{dsSlug}", tags=["objects"], route_class=StrictRoute)


@router.put("/obj", responses=problems(400, 401, 403, 404, 409, 413, 429))
async def rename_object(ctx: DatasetCtx, body: FromTo) -> EntryResponse:
    """Move a file, or a folder with everything below it, to another path."""
    row = await ctx.platform.tree.rename(ctx.caller, ctx.org, ctx.slug, source=body.source, dest=body.dest)
    return entry_response(row)


@router.post("/obj/copy", status_code=201, responses=problems(400, 401, 403, 404, 409, 413, 429))
async def copy_object(ctx: DatasetCtx, body: FromTo, response: Response) -> EntryResponse:
    """Copy a file, or a folder with everything below it, to another path."""
    row = await ctx.platform.tree.copy(ctx.caller, ctx.org, ctx.slug, source=body.source, dest=body.dest)
    return created(ctx, row, response)


@router.post("/search", responses=problems(400, 401, 404, 413))
async def search_entries(ctx: DatasetCtx, body: SearchBody) -> SearchResponse:
    """Search entries by part of the path or a pattern, by type and by bounding box."""
    entry_filter = EntryFilter(
        text=body.query,
        folder=paths.folder_path(body.path),
        types=None if body.types is None else tuple(body.types),
        box=None if body.bbox is None else _box(body.bbox),
    )
    found = await ctx.platform.tree.search(
        ctx.caller, ctx.org, ctx.slug, entry_filter, skip=body.skip, take=body.take
    )
    return SearchResponse(
        items=[entry_response(row) for row in found.rows], skip=found.skip, take=found.take, more=found.more
    )


def _box(bbox: list[float]) -> BoundingBox:
    west, south, east, north = bbox
    if not -90 <= south <= north <= 90:
        raise InvalidInput(
            "'bbox' must be west, south, east, north, with south not above north and both within ±90.",
            code="invalid-bbox",
        )
    return BoundingBox(west, south, east, north)
