"""Request and response schemas for organizations, members, datasets and usage."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from aerotask.api.http.schema import Body, CleanLine, CleanLines
from aerotask.domain.access import Access, Membership, Visibility
from aerotask.representations.base import ApiModel, Moment


class OrgFields(Body):
    """Editable fields of an organization."""

    name: Annotated[str, Field(max_length=256), CleanLine] = ""
    description: Annotated[str, Field(max_length=4096), CleanLines] = ""
    is_public: bool = False


class OrgChanges(OrgFields):
    """Changes of an organization, including a transfer to another owner."""

    owner: str | None = Field(None, max_length=128)
    """New owner; only the present owner may transfer, and stays an administrator. Unchanged if missing."""


class NewOrg(OrgFields):
    """Organization to create."""

    slug: str


class OrgResponse(ApiModel):
    """Organization."""

    slug: str
    name: str
    description: str
    is_public: bool
    owner: str | None
    created_at: Moment


class MemberFields(Body):
    """Permissions of a member."""

    permissions: Membership


class NewMember(MemberFields):
    """Member to add, or to give other permissions."""

    user_name: str = Field(max_length=128)


class MemberResponse(ApiModel):
    """Member of an organization."""

    user_name: str
    permissions: Membership
    created_at: Moment


class DatasetFields(Body):
    """Editable fields of a dataset."""

    name: Annotated[str, Field(max_length=256), CleanLine] = ""
    tagline: Annotated[str, Field(max_length=4096), CleanLines] = ""
    visibility: Visibility = Visibility.PRIVATE


class NewDataset(DatasetFields):
    """Dataset to create."""

    slug: str


class NewSlug(Body):
    """New slug of a dataset."""

    slug: str


class DatasetResponse(ApiModel):
    """Dataset, with the caller's permissions."""

    slug: str
    name: str
    tagline: str
    visibility: Visibility
    created_at: Moment
    permissions: list[Access]


class UsageLimits(ApiModel):
    """Quotas of an organization; null where there is no limit."""

    max_storage_bytes_per_org: int | None
    max_storage_bytes_per_user: int | None
    max_object_bytes: int
    max_active_tasks_per_org: int
    max_active_tasks_per_user: int
    max_artifact_bytes_per_org_day: int


class UsageResponse(ApiModel):
    """Storage and task usage of an organization, with its limits."""

    storage_bytes: int
    """Size of all entries; copies count separately."""
    upload_bytes: int
    """Announced size of incomplete resumable uploads; counts towards the limits."""
    entries: int
    datasets: int
    owner_storage_bytes: int | None
    """Storage of all organizations of the owner, uploads included; null without an owner."""
    active_tasks: int
    active_tasks_of_caller: int
    artifact_bytes_day: int
    """Size of artifacts of the last 24 hours, plus the estimates of active tasks."""
    limits: UsageLimits
