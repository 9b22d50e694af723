"""Usage route: storage and tasks of an organization, with its quotas."""

from __future__ import annotations

from fastapi import APIRouter

from aerotask.api.datasets.org_schemas import UsageLimits, UsageResponse
from aerotask.api.deps import CallerDep, OrgSlug, PlatformDep
from aerotask.api.http.errors import problems
from aerotask.api.http.strict_json import StrictRoute

router = APIRouter(prefix="/orgs", tags=["organizations"], route_class=StrictRoute)


@router.get("/{orgSlug}/usage", responses=problems(401, 403, 404))
async def get_usage(org: OrgSlug, caller: CallerDep, platform: PlatformDep) -> UsageResponse:
    """Get an organization's storage and task usage, with its limits; for members."""
    usage = await platform.usage.of_org(caller, org)
    quotas = platform.usage.quotas
    return UsageResponse(
        storage_bytes=usage.stored.entry_bytes,
        upload_bytes=usage.stored.upload_bytes,
        entries=usage.stored.entries,
        datasets=usage.stored.datasets,
        owner_storage_bytes=usage.owner_bytes,
        active_tasks=usage.activity.active_tasks,
        active_tasks_of_caller=usage.activity.active_tasks_of_caller,
        artifact_bytes_day=usage.activity.artifact_bytes_day,
        limits=UsageLimits(
            max_storage_bytes_per_org=platform.usage.storage.bytes_per_org,
            max_storage_bytes_per_user=platform.usage.storage.bytes_per_user,
            max_object_bytes=platform.entries.max_object_bytes,
            max_active_tasks_per_org=quotas.active_per_org,
            max_active_tasks_per_user=quotas.active_per_user,
            max_artifact_bytes_per_org_day=quotas.artifact_bytes_per_org_day,
        ),
    )
