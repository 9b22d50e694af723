"""Organization routes, with members."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Response

from aerotask.api.datasets.org_schemas import (
    MemberFields,
    MemberResponse,
    NewMember,
    NewOrg,
    OrgChanges,
    OrgResponse,
)
from aerotask.api.deps import CallerDep, OrgSlug, PlatformDep
from aerotask.api.http.errors import problems
from aerotask.api.http.strict_json import StrictRoute
from aerotask.store.datasets.orgs import OrgRow

router = APIRouter(prefix="/orgs", tags=["organizations"], route_class=StrictRoute)

UserName = Annotated[str, Path(alias="userName", max_length=128)]


@router.get("", responses=problems())
async def list_orgs(caller: CallerDep, platform: PlatformDep) -> list[OrgResponse]:
    """List the organizations that the caller may see."""
    return [_org(row) for row in await platform.orgs.list_orgs(caller)]


@router.post("", status_code=201, responses=problems(400, 401, 409, 413, 429))
async def create_org(
    body: NewOrg, caller: CallerDep, platform: PlatformDep, response: Response
) -> OrgResponse:
    """Create an organization, owned by the caller."""
    row = await platform.orgs.create_org(
        caller,
        slug=body.slug,
        name=body.name,
        description=body.description,
        is_public=body.is_public,
    )
    response.headers["Location"] = f"/orgs/{row.slug}"
    return _org(row)


@router.get("/{orgSlug}", responses=problems(401, 404))
async def get_org(org: OrgSlug, caller: CallerDep, platform: PlatformDep) -> OrgResponse:
    """Get an organization."""
    return _org(await platform.access.org(caller, org))


@router.put("/{orgSlug}", responses=problems(400, 401, 403, 404, 413, 429))
async def update_org(org: OrgSlug, body: OrgChanges, caller: CallerDep, platform: PlatformDep) -> OrgResponse:
    """Change an organization's fields, or transfer it to another owner."""
    row = await platform.orgs.update_org(
        caller,
        org,
        name=body.name,
        description=body.description,
        is_public=body.is_public,
        owner=body.owner,
    )
    return _org(row)


@router.delete("/{orgSlug}", status_code=204, responses=problems(401, 403, 404))
async def delete_org(org: OrgSlug, caller: CallerDep, platform: PlatformDep) -> None:
    """Delete an organization with its datasets, entries and tasks."""
    await platform.orgs.delete_org(caller, org)


@router.get("/{orgSlug}/members", responses=problems(401, 403, 404))
async def list_members(org: OrgSlug, caller: CallerDep, platform: PlatformDep) -> list[MemberResponse]:
    """List the organization's members."""
    rows = await platform.orgs.list_members(caller, org)
    return [
        MemberResponse(user_name=row.user_name, permissions=row.permissions, created_at=row.created_at)
        for row in rows
    ]


@router.post("/{orgSlug}/members", status_code=204, responses=problems(400, 401, 403, 404, 413, 429))
async def add_member(org: OrgSlug, body: NewMember, caller: CallerDep, platform: PlatformDep) -> None:
    """Add a user as member."""
    await platform.orgs.set_member(caller, org, user_name=body.user_name, permissions=body.permissions)


@router.put(
    "/{orgSlug}/members/{userName}", status_code=204, responses=problems(400, 401, 403, 404, 413, 429)
)
async def set_member(
    org: OrgSlug, user_name: UserName, body: MemberFields, caller: CallerDep, platform: PlatformDep
) -> None:
    """Change a member's permissions."""
    await platform.orgs.set_member(caller, org, user_name=user_name, permissions=body.permissions)


@router.delete("/{orgSlug}/members/{userName}", status_code=204, responses=problems(401, 403, 404))
async def remove_member(org: OrgSlug, user_name: UserName, caller: CallerDep, platform: PlatformDep) -> None:
    """Remove a member."""
    await platform.orgs.remove_member(caller, org, user_name)


def _org(row: OrgRow) -> OrgResponse:
    return OrgResponse(
        slug=row.slug,
        name=row.name,
        description=row.description,
        is_public=row.is_public,
        owner=row.owner,
        created_at=row.created_at,
    )
