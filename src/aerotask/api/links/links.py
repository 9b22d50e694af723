"""Link routes: create, list and revoke signed links of a dataset."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote, urlencode
from uuid import UUID

from fastapi import APIRouter, Path, Request, Response

from aerotask.api.deps import DatasetCtx, Skip, Take
from aerotask.api.http.errors import problems
from aerotask.api.http.pagination import page_headers
from aerotask.api.http.strict_json import StrictRoute
from aerotask.api.links.schemas import LinkResponse, NewLinkBody, NewLinkResponse
from aerotask.domain.access import LinkScope
from aerotask.domain.ids import TaskId
from aerotask.metadata.file_types import EntryType
from aerotask.services.datasets.links import LinkTarget, NewLink
from aerotask.store.datasets.links import LinkRow

router = APIRouter(prefix="/orgs/{orgSlug}/ds/{dsSlug}/links", tags=["links"], route_class=StrictRoute)


@router.post("", status_code=201, responses=problems(400, 401, 403, 404, 409, 413))
async def create_link(
    ctx: DatasetCtx, body: NewLinkBody, request: Request, response: Response
) -> NewLinkResponse:
    """Create a signed link: an address that works without a header, for GET and HEAD, until it expires or is revoked.

    It reads on the caller's behalf and ends with their rights, credentials, or its target.
    """
    target = LinkTarget(body.path, body.folder, None if body.task_id is None else TaskId(body.task_id))
    made = await ctx.platform.links.create(
        ctx.caller, ctx.org, ctx.slug, target, scope=body.scope, ttl_s=body.ttl_s, note=body.note
    )
    base_url = f"{str(request.base_url).rstrip('/')}/links/{made.token}/"
    response.headers["Cache-Control"] = "no-store"
    return NewLinkResponse(
        id=made.id,
        url=base_url + _address(made, body.scope),
        base_url=base_url,
        expires_at=made.expires_at,
    )


def _address(made: NewLink, scope: LinkScope) -> str:
    """The address of the link's target below the link."""
    if made.target.folder is not None:
        return "list"
    if made.target.task_id is not None:
        task = f"tasks/{made.target.task_id}"
        if scope is LinkScope.VIEW:
            return f"{task}/events"
        return f"{task}/result" + (f"/{quote(made.result_name, safe='')}" if made.result_name else "")
    path = made.target.path or ""
    if scope is LinkScope.DOWNLOAD:
        return f"obj/{quote(path)}"
    is_map = made.entry is not None and made.entry.type == EntryType.GEO_RASTER
    return f"{'tilejson.json' if is_map else 'thumb'}?{urlencode({'path': path})}"


@router.get("", responses=problems(400, 401, 404))
async def list_links(
    ctx: DatasetCtx, request: Request, response: Response, skip: Skip = 0, take: Take = 50
) -> list[LinkResponse]:
    """List the caller's links of the dataset, newest first; administrators of the organization see those of all."""
    page = await ctx.platform.links.list_links(ctx.caller, ctx.org, ctx.slug, skip=skip, take=take)
    response.headers.update(page_headers(request.url, skip=skip, take=page.take, total=page.total))
    return [_link(row) for row in page.items]


@router.delete("/{linkId}", status_code=204, responses=problems(400, 401, 403, 404))
async def revoke_link(
    ctx: DatasetCtx, link_id: Annotated[UUID, Path(alias="linkId", description="The link's id.")]
) -> None:
    """Revoke a link, which opens nothing any more at once; for its maker and administrators of the organization."""
    await ctx.platform.links.revoke(ctx.caller, ctx.org, ctx.slug, link_id)


def _link(row: LinkRow) -> LinkResponse:
    return LinkResponse(
        id=row.id,
        path=row.path,
        task_id=row.task_id,
        scope=row.scope,
        note=row.note,
        owner=row.owner,
        created_at=row.created_at,
        expires_at=row.expires_at,
    )
