"""Bodies and answers about organizations, their members, their datasets and their use of the storage."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from aerotask.api.http.schema import Body, CleanLine, CleanLines
from aerotask.domain.access import Access, Membership, Visibility
from aerotask.representations.base import ApiModel, Moment


class OrgFields(Body):
    """What an organization is called."""

    name: Annotated[str, Field(max_length=256), CleanLine] = ""
    description: Annotated[str, Field(max_length=4096), CleanLines] = ""
    is_public: bool = False


class OrgChanges(OrgFields):
    """What an organization is called from now on, and whose it is."""

    owner: str | None = Field(None, max_length=128)
    """The user to give it to, for its owner alone, who stays one of its administrators; if missing it stays theirs."""


class NewOrg(OrgFields):
    """An organization to add."""

    slug: str


class OrgResponse(ApiModel):
    """An organization."""

    slug: str
    name: str
    description: str
    is_public: bool
    owner: str | None
    created_at: Moment


class MemberFields(Body):
    """What a member may do."""

    permissions: Membership


class NewMember(MemberFields):
    """A member to add, or to give other permissions."""

    user_name: str = Field(max_length=128)


class MemberResponse(ApiModel):
    """A member."""

    user_name: str
    permissions: Membership
    created_at: Moment


class DatasetFields(Body):
    """What a dataset is called, and who may see it."""

    name: Annotated[str, Field(max_length=256), CleanLine] = ""
    tagline: Annotated[str, Field(max_length=4096), CleanLines] = ""
    visibility: Visibility = Visibility.PRIVATE


class NewDataset(DatasetFields):
    """A dataset to add."""

    slug: str


class NewSlug(Body):
    """Another slug for a dataset."""

    slug: str


class DatasetResponse(ApiModel):
    """A dataset, and what the caller may do to it."""

    slug: str
    name: str
    tagline: str
    visibility: Visibility
    created_at: Moment
    permissions: list[Access]


class UsageLimits(ApiModel):
    """What may be stored and done; null where there is no limit."""

    max_storage_bytes_per_org: int | None
    max_storage_bytes_per_user: int | None
    max_object_bytes: int
    max_active_tasks_per_org: int
    max_active_tasks_per_user: int
    max_artifact_bytes_per_org_day: int


class UsageResponse(ApiModel):
    """How much an organization holds and does."""

    storage_bytes: int
    """Of all entries; one that was copied counts as often as it is there."""
    upload_bytes: int
    """Announced by resumable uploads that are not complete; counts for the limits."""
    entries: int
    datasets: int
    owner_storage_bytes: int | None
    """In all organizations of the owner, uploads included; null if nobody owns it."""
    active_tasks: int
    active_tasks_of_caller: int
    artifact_bytes_day: int
    """Made in the last 24 hours, and expected of the active tasks."""
    limits: UsageLimits
