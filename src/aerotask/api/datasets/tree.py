"""Routes: renaming, copying and finding the entries of a dataset."""

from __future__ import annotations

from fastapi import APIRouter, Response

from aerotask.api.datasets.entries import created, entry_answer
from aerotask.api.datasets.entry_schemas import EntryAnswer, FromTo, SearchAnswer, SearchBody
from aerotask.api.deps import PlaceDep
from aerotask.api.http.errors import problems
from aerotask.api.http.strict_json import StrictRoute
from aerotask.domain import paths
from aerotask.domain.errors import InvalidInput
from aerotask.store.datasets.search import Box, Wanted

router = APIRouter(prefix="/orgs/{orgSlug}/ds/{dsSlug}", tags=["objects"], route_class=StrictRoute)


@router.put("/obj", responses=problems(400, 401, 403, 404, 409, 413, 429))
async def rename_object(at: PlaceDep, body: FromTo) -> EntryAnswer:
    """Give a file, or a folder with everything below it, another path."""
    row = await at.platform.trees.rename(at.caller, at.org, at.slug, source=body.source, dest=body.dest)
    return entry_answer(row)


@router.post("/obj/copy", status_code=201, responses=problems(400, 401, 403, 404, 409, 413, 429))
async def copy_object(at: PlaceDep, body: FromTo, response: Response) -> EntryAnswer:
    """Put a file, or a folder with everything below it, at another path as well."""
    row = await at.platform.trees.copy(at.caller, at.org, at.slug, source=body.source, dest=body.dest)
    return created(at, row, response)


@router.post("/search", responses=problems(400, 401, 404, 413))
async def search_entries(at: PlaceDep, body: SearchBody) -> SearchAnswer:
    """Entries by a part of their path or a pattern, by type, and by place."""
    wanted = Wanted(
        text=body.query,
        folder=paths.folder_path(body.path),
        types=None if body.types is None else tuple(body.types),
        box=None if body.bbox is None else _box(body.bbox),
    )
    found = await at.platform.trees.search(at.caller, at.org, at.slug, wanted, skip=body.skip, take=body.take)
    return SearchAnswer(
        items=[entry_answer(row) for row in found.rows], skip=found.skip, take=found.take, more=found.more
    )


def _box(bbox: list[float]) -> Box:
    west, south, east, north = bbox
    if not -90 <= south <= north <= 90:
        raise InvalidInput("'bbox' is west, south, east, north, with south below north.", code="invalid-bbox")
    return Box(west, south, east, north)
