"""The JSON of requests and answers: camelCase outside, and made from what services return."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import orjson
from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

from aerotask.contract.model import Answer, Moment
from aerotask.contract.status import SystemTaskAnswer
from aerotask.domain.access import Access, Membership, Visibility
from aerotask.domain.states import TaskState
from aerotask.domain.texts import clean_line
from aerotask.media.types import EntryType

MAX_METADATA_BYTES = 16 * 1024


class Body(BaseModel):
    """What a client sends: closed, so that a misspelt member is an error and not ignored."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", use_attribute_docstrings=True)


def _printable(value: str) -> str:
    if clean_line(value) != value:
        raise ValueError("must not hold control characters")
    return value


def _without_controls(value: str) -> str:
    """The text as people meant it: line ends and tabs stay, other control characters go."""
    return "\n".join(clean_line(line) for line in value.splitlines())


Plain = AfterValidator(clean_line)
PlainLines = AfterValidator(_without_controls)


class Credentials(Body):
    """A sign-in."""

    username: Annotated[str, Field(max_length=256), AfterValidator(_printable)]
    password: str = Field(max_length=1024)


class TokenAnswer(Answer):
    """A bearer token."""

    username: str
    token: str
    expires: Moment


class NewUser(Body):
    """A user to add."""

    user_name: str = Field(max_length=128)
    password: str = Field(max_length=1024)
    email: Annotated[str, Field(max_length=320), AfterValidator(_printable)] | None = None
    roles: list[str] = Field(default_factory=list, max_length=8)
    """Any of `admin`, `deactivated`."""


class UserFields(Body):
    """What a user may do from now on, and what else is to change."""

    roles: list[str] = Field(max_length=8)
    """Any of `admin`, `deactivated`."""
    password: str | None = Field(None, max_length=1024)
    """A new password; ends the user's sessions."""
    subject: Annotated[str, Field(max_length=255), AfterValidator(_printable)] | None = None
    """Who they are for the external provider; an empty text for nobody."""


class NewPassword(Body):
    """A change of the caller's own password."""

    old_password: str = Field(max_length=1024)
    new_password: str = Field(max_length=1024)


class UserAnswer(Answer):
    """A user."""

    user_name: str
    email: str | None
    roles: list[str]
    created_at: Moment
    subject: str | None
    """Who they are for the external provider."""


class OrgFields(Body):
    """What an organization is called."""

    name: Annotated[str, Field(max_length=256), Plain] = ""
    description: Annotated[str, Field(max_length=4096), PlainLines] = ""
    is_public: bool = False


class OrgChanges(OrgFields):
    """What an organization is called from now on, and whose it is."""

    owner: str | None = Field(None, max_length=128)
    """The user to give it to, for its owner alone, who stays one of its administrators; if missing it stays theirs."""


class NewOrg(OrgFields):
    """An organization to add."""

    slug: str


class OrgAnswer(Answer):
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


class MemberAnswer(Answer):
    """A member."""

    user_name: str
    permissions: Membership
    created_at: Moment


class DatasetFields(Body):
    """What a dataset is called, and who may see it."""

    name: Annotated[str, Field(max_length=256), Plain] = ""
    tagline: Annotated[str, Field(max_length=4096), PlainLines] = ""
    visibility: Visibility = Visibility.PRIVATE


class NewDataset(DatasetFields):
    """A dataset to add."""

    slug: str


class NewSlug(Body):
    """Another slug for a dataset."""

    slug: str


class DatasetAnswer(Answer):
    """A dataset, and what the caller may do to it."""

    slug: str
    name: str
    tagline: str
    visibility: Visibility
    created_at: Moment
    permissions: list[Access]


class EntryAnswer(Answer):
    """A file or folder of a dataset."""

    path: str
    hash: str
    """SHA-256 of the content; empty for a folder."""
    type: str
    properties: dict[str, Any]
    mtime: int
    """Unix seconds."""
    size: int
    depth: int
    point_geom: dict[str, Any] | None
    """GeoJSON in EPSG:4326."""
    polygon_geom: dict[str, Any] | None
    """GeoJSON in EPSG:4326."""
    indexed: bool
    """False until a worker has looked into the content."""


class RemovedAnswer(Answer):
    """What a removal took away."""

    removed: list[str]


class FromTo(Body):
    """Two paths of a dataset."""

    source: str = Field(max_length=4096)
    """What is there."""
    dest: str = Field(max_length=4096)
    """Where it is to be; nothing may be there yet."""


Degrees = Annotated[float, Field(ge=-180, le=180, allow_inf_nan=False)]


class SearchBody(Body):
    """What entries to find; each member that is given must hold."""

    query: str | None = Field(None, min_length=1, max_length=256)
    """A part of the path, in any case. With `*`, `?` or `**` it is a pattern for the whole path, or for the name if it holds no `/`."""
    path: str | None = Field(None, max_length=4096)
    """Only below this folder."""
    types: list[EntryType] | None = Field(None, min_length=1, max_length=len(EntryType))
    bbox: Annotated[list[Degrees], Field(min_length=4, max_length=4)] | None = None
    """West, south, east, north in degrees of EPSG:4326: only entries whose point lies in it."""
    skip: int = Field(0, ge=0, le=10_000_000)
    take: int = 50
    """Clamped to 1–1000."""


class SearchAnswer(Answer):
    """Entries that were found, by path."""

    items: list[EntryAnswer]
    skip: int
    take: int
    more: bool
    """Whether there are others behind these."""


class UsageLimits(Answer):
    """What may be stored and done; null where there is no limit."""

    max_storage_bytes_per_org: int | None
    max_storage_bytes_per_user: int | None
    max_object_bytes: int
    max_active_tasks_per_org: int
    max_active_tasks_per_user: int
    max_artifact_bytes_per_org_day: int


class UsageAnswer(Answer):
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


class ToolAnswer(Answer):
    """A tool that tasks can be submitted for."""

    id: str
    version: str
    title: str
    description: str
    required_access: Access
    produces_artifact: bool
    result_extension: str | None
    input_schema: dict[str, Any]
    """JSON Schema 2020-12 of the params."""
    available: bool
    unavailable_reason: str | None


def _as_text(value: Any) -> Any:
    """A time comes as RFC 3339 text; numbers, which pydantic would take for Unix times, are refused."""
    if value is not None and not isinstance(value, str):
        raise ValueError("must be a time as RFC 3339 text, such as 2026-11-22T18:00:00Z")
    return value


def _within_16_kib(value: dict[str, Any]) -> dict[str, Any]:
    size_bytes = len(orjson.dumps(value))
    if size_bytes > MAX_METADATA_BYTES:
        raise ValueError(f"is {size_bytes} bytes long; the limit is {MAX_METADATA_BYTES}")
    return value


Label = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_printable)]


class NewTaskBody(Body):
    """A task to run; only `toolId` is required."""

    tool_id: str = Field(max_length=128)
    version: str | None = Field(None, max_length=64)
    """The highest if missing."""
    path: str | None = Field(None, max_length=4096)
    """The same as `params.path`."""
    params: dict[str, Any] = Field(default_factory=dict)
    force: bool = False
    """Run it even if an identical task is there."""
    callback_url: str | None = None
    """Where to POST the task's status when it has ended."""
    scheduled_at: Annotated[AwareDatetime | None, BeforeValidator(_as_text)] = None
    """Run it at this time, up to 366 days ahead; in the past: now."""
    tags: list[Label] = Field(default_factory=list, max_length=5)
    metadata: Annotated[dict[str, Any], AfterValidator(_within_16_kib)] = Field(default_factory=dict)
    """Whatever the client wants to find in the status again; up to 16 KiB."""
    unique_id: Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_printable)] | None = None
    """The client's own name for the task; unique within the organization."""


class RestartBody(Body):
    """What is to be different from the task before."""

    params: dict[str, Any] = Field(default_factory=dict)
    """Params to change; all others stay."""
    rerun_from: str | None = Field(None, max_length=128)
    """The stage to begin at, for tools that have stages."""


class SubmittedAnswer(Answer):
    """The task that answers for a submission."""

    task_id: UUID
    tool_id: str
    version: str
    deduplicated: bool
    status_url: str
    result_url: str
    estimated_output_bytes: int


class ValidationFault(Answer):
    """One reason why a submit would be refused."""

    pointer: str
    """JSON Pointer (RFC 6901) into the body; empty if the fault is of the whole."""
    message: str
    code: str
    """The code that a submit would be refused with."""


class ValidationAnswer(Answer):
    """What a submit with these params would come to."""

    ok: bool
    errors: list[ValidationFault]
    warnings: list[str]
    summary: dict[str, Any]
    """What the run would read and make; empty if there are errors."""


class OwnTasksAnswer(Answer):
    """The caller's tasks across datasets."""

    count: int
    next: str | None
    """Address of the next page."""
    previous: str | None
    results: list[SystemTaskAnswer]


class SystemTasksAnswer(Answer):
    """Tasks of the whole system."""

    items: list[SystemTaskAnswer]
    total: int
    skip: int
    take: int


class LogAnswer(Answer):
    """Some lines of a task's log."""

    cursor: int
    """Where the next read goes on."""
    lines: list[str]
    truncated_from_tail: int
    """How many of the oldest lines are no longer kept."""


class DeletedTaskAnswer(Answer):
    """What became of a task."""

    task_id: UUID
    state: TaskState


class ClearedAnswer(Answer):
    """How many tasks went."""

    cleared: int


class StateAnswer(Answer):
    """A state of the table of transitions."""

    value: TaskState
    terminal: bool
    next: list[TaskState]


class FeatureTool(Answer):
    """A tool in brief."""

    id: str
    version: str
    title: str
    available: bool
    unavailable_reason: str | None


class FeatureDerivative(Answer):
    """A kind of derivative that the tool `build` makes."""

    kind: str
    title: str
    media_type: str
    available: bool
    unavailable_reason: str | None


class FeaturesAnswer(Answer):
    """What this installation can do."""

    version: str
    task_states: list[StateAnswer]
    task_tools: list[FeatureTool]
    derivatives: list[FeatureDerivative]
    limits: dict[str, int]


class HealthAnswer(Answer):
    """The process is up."""

    status: str


class ReadyAnswer(Answer):
    """Whether work can be taken and done, and the state of each part."""

    ready: bool
    postgres: str
    redis: str
    storage: str
    workers: int


class NewViewToken(Body):
    """What a viewing token is to be for."""

    task_id: UUID | None = None
    """The task whose result may be looked at; left out, everything in the dataset."""


class ViewTokenAnswer(Answer):
    """A token for the `token` parameter of the routes for viewing."""

    token: str
    expires: Moment


class TileJsonAnswer(Answer):
    """How a raster's tiles are found (TileJSON 3.0.0)."""

    tilejson: str = "3.0.0"
    name: str
    scheme: str = "xyz"
    tiles: list[str]
    bounds: list[float]
    """West, south, east, north in degrees."""
    center: list[float]
    """Longitude, latitude, zoom."""
    minzoom: int
    maxzoom: int
