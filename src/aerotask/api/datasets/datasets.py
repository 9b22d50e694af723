"""Routes: datasets as wholes."""

from __future__ import annotations

from fastapi import APIRouter, Response

from aerotask.api.datasets.org_schemas import DatasetAnswer, DatasetFields, NewDataset, NewSlug
from aerotask.api.deps import CallerDep, OrgSlug, PlaceDep, PlatformDep
from aerotask.api.http.errors import problems
from aerotask.api.http.strict_json import StrictRoute
from aerotask.domain.access import Caller
from aerotask.services.datasets.orgs import permissions_of
from aerotask.store.datasets.orgs import DatasetRow

router = APIRouter(prefix="/orgs/{orgSlug}/ds", tags=["datasets"], route_class=StrictRoute)


@router.get("", responses=problems(401, 404))
async def list_datasets(org: OrgSlug, caller: CallerDep, platform: PlatformDep) -> list[DatasetAnswer]:
    """The organization's datasets that the caller may see."""
    rows = await platform.organizations.list_datasets(caller, org)
    return [_dataset(caller, row) for row in rows]


@router.post("", status_code=201, responses=problems(400, 401, 403, 404, 409, 413))
async def create_dataset(
    org: OrgSlug, body: NewDataset, caller: CallerDep, platform: PlatformDep, response: Response
) -> DatasetAnswer:
    """Add a dataset."""
    row = await platform.organizations.create_dataset(
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
async def get_dataset(at: PlaceDep) -> DatasetAnswer:
    """One dataset."""
    return _dataset(at.caller, (await at.platform.access.dataset(at.caller, at.org, at.slug)).row)


@router.put("/{dsSlug}", responses=problems(400, 401, 403, 404, 413))
async def update_dataset(at: PlaceDep, body: DatasetFields) -> DatasetAnswer:
    """Change what a dataset is called and who may see it."""
    row = await at.platform.organizations.update_dataset(
        at.caller, at.org, at.slug, name=body.name, tagline=body.tagline, visibility=body.visibility
    )
    return _dataset(at.caller, row)


@router.post("/{dsSlug}/rename", responses=problems(400, 401, 403, 404, 409, 413))
async def rename_dataset(at: PlaceDep, body: NewSlug) -> DatasetAnswer:
    """Give a dataset another slug; its entries and tasks go with it."""
    row = await at.platform.organizations.rename_dataset(at.caller, at.org, at.slug, to_slug=body.slug)
    return _dataset(at.caller, row)


@router.delete("/{dsSlug}", status_code=204, responses=problems(401, 403, 404))
async def delete_dataset(at: PlaceDep) -> None:
    """Remove a dataset with its entries and tasks."""
    await at.platform.organizations.delete_dataset(at.caller, at.org, at.slug)


def _dataset(caller: Caller, row: DatasetRow) -> DatasetAnswer:
    return DatasetAnswer(
        slug=row.slug,
        name=row.name,
        tagline=row.tagline,
        visibility=row.visibility,
        created_at=row.created_at,
        permissions=sorted(permissions_of(caller, row)),
    )
