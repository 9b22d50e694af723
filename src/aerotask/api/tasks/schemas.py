"""Bodies and answers about tools and tasks."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import orjson
from pydantic import AfterValidator, BeforeValidator, Field

from aerotask.api.http.schema import Body, Label, Printable, UtcTime
from aerotask.domain.access import Access
from aerotask.domain.states import TaskState
from aerotask.representations.base import ApiModel
from aerotask.representations.task_status import SystemTaskResponse

MAX_METADATA_BYTES = 16 * 1024


class ToolResponse(ApiModel):
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
    scheduled_at: Annotated[UtcTime | None, BeforeValidator(_as_text)] = None
    """Run it at this time, up to 366 days ahead; in the past: now."""
    tags: list[Label] = Field(default_factory=list, max_length=5)
    metadata: Annotated[dict[str, Any], AfterValidator(_within_16_kib)] = Field(default_factory=dict)
    """Whatever the client wants to find in the status again; up to 16 KiB."""
    unique_id: Annotated[str, Field(min_length=1, max_length=128), Printable] | None = None
    """The client's own name for the task; unique within the organization."""


class RestartBody(Body):
    """What is to be different from the task before."""

    params: dict[str, Any] = Field(default_factory=dict)
    """Params to change; all others stay."""
    rerun_from: str | None = Field(None, max_length=128)
    """The stage to begin at, for tools that have stages."""


class SubmitResponse(ApiModel):
    """The task that answers for a submission."""

    task_id: UUID
    tool_id: str
    version: str
    deduplicated: bool
    status_url: str
    result_url: str
    estimated_output_bytes: int


class DryRunError(ApiModel):
    """One reason why a submit would be refused."""

    pointer: str
    """JSON Pointer (RFC 6901) into the body; empty if the fault is of the whole."""
    message: str
    code: str
    """The code that a submit would be refused with."""


class DryRunResponse(ApiModel):
    """What a submit with these params would come to."""

    ok: bool
    errors: list[DryRunError]
    warnings: list[str]
    summary: dict[str, Any]
    """What the run would read and make; empty if there are errors."""


class OwnTasksResponse(ApiModel):
    """The caller's tasks across datasets."""

    count: int
    next: str | None
    """Address of the next page."""
    previous: str | None
    results: list[SystemTaskResponse]


class SystemTasksResponse(ApiModel):
    """Tasks of the whole system."""

    items: list[SystemTaskResponse]
    total: int
    skip: int
    take: int


class LogResponse(ApiModel):
    """Some lines of a task's log."""

    cursor: int
    """Where the next read goes on."""
    lines: list[str]
    truncated_from_tail: int
    """How many of the oldest lines are no longer kept."""


class DeleteTaskResponse(ApiModel):
    """What became of a task."""

    task_id: UUID
    state: TaskState


class ClearResponse(ApiModel):
    """How many tasks went."""

    cleared: int
