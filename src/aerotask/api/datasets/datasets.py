"""Dataset routes: list, create, get, update, rename and delete."""

from __future__ import annotations

from fastapi import APIRouter, Response

from aerotask.api.datasets.org_schemas import DatasetFields, DatasetResponse, NewDataset, NewSlug
from aerotask.api.deps import CallerDep, DatasetCtx, OrgSlug, PlatformDep
from aerotask.api.http.errors import problems
from aerotask.api.http.strict_json import StrictRoute
from aerotask.domain.access import Caller
from aerotask.services.datasets.datasets import permissions_of
from aerotask.store.datasets.datasets import DatasetRow

router = APIRouter(prefix="/orgs/{orgSlug}/ds", tags=["datasets"], route_class=StrictRoute)


@router.get("", responses=problems(401, 404))
async def list_datasets(org: OrgSlug, caller: CallerDep, platform: PlatformDep) -> list[DatasetResponse]:
    """List the organization's datasets that the caller may see."""
    rows = await platform.datasets.list_datasets(caller, org)
    return [_dataset(caller, row) for row in rows]


@router.post("", status_code=201, responses=problems(400, 401, 403, 404, 409, 413))
async def create_dataset(
    org: OrgSlug, body: NewDataset, caller: CallerDep, platform: PlatformDep, response: Response
) -> DatasetResponse:
    """Create a dataset."""
    row = await platform.datasets.create_dataset(
        caller,
        org,
        slug=body.slug,
        name=body.name,
        tagline=body.tagline,
        visibility=body.visibility,
    )
    response.headers["Location"] = f"/orgs/{org}/ds/{row.slug}"
    return _dataset(caller, row)


@router.get("/{dsSlug}", responses=problems(401, 404))
async def get_dataset(ctx: DatasetCtx) -> DatasetResponse:
    """Get a dataset."""
    return _dataset(ctx.caller, (await ctx.platform.access.dataset(ctx.caller, ctx.org, ctx.slug)).row)


@router.put("/{dsSlug}", responses=problems(400, 401, 403, 404, 413))
async def update_dataset(ctx: DatasetCtx, body: DatasetFields) -> DatasetResponse:
    """Change a dataset's name, tagline and visibility."""
    row = await ctx.platform.datasets.update_dataset(
        ctx.caller, ctx.org, ctx.slug, name=body.name, tagline=body.tagline, visibility=body.visibility
    )
    return _dataset(ctx.caller, row)


@router.post("/{dsSlug}/rename", responses=problems(400, 401, 403, 404, 409, 413))
async def rename_dataset(ctx: DatasetCtx, body: NewSlug) -> DatasetResponse:
    """Change a dataset's slug; its entries and tasks stay with it."""
    row = await ctx.platform.datasets.rename_dataset(ctx.caller, ctx.org, ctx.slug, to_slug=body.slug)
    return _dataset(ctx.caller, row)


@router.delete("/{dsSlug}", status_code=204, responses=problems(401, 403, 404))
async def delete_dataset(ctx: DatasetCtx) -> None:
    """Delete a dataset with its entries and tasks."""
    await ctx.platform.datasets.delete_dataset(ctx.caller, ctx.org, ctx.slug)


def _dataset(caller: Caller, row: DatasetRow) -> DatasetResponse:
    return DatasetResponse(
        slug=row.slug,
        name=row.name,
        tagline=row.tagline,
        visibility=row.visibility,
        created_at=row.created_at,
        permissions=sorted(permissions_of(caller, row)),
    )
