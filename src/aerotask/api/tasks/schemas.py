"""Request and response schemas for tools and tasks."""

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
    """Tool that tasks can be submitted for."""

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


def _only_text(value: Any) -> Any:
    """Rejects numbers as times, which pydantic would read as Unix times; only RFC 3339 text is accepted."""
    if value is not None and not isinstance(value, str):
        raise ValueError("must be a time as RFC 3339 text, such as 2026-11-22T18:00:00Z")
    return value


def _within_16_kib(value: dict[str, Any]) -> dict[str, Any]:
    size_bytes = len(orjson.dumps(value))
    if size_bytes > MAX_METADATA_BYTES:
        raise ValueError(f"is {size_bytes} bytes long; the limit is {MAX_METADATA_BYTES}")
    return value


class NewTaskBody(Body):
    """Task to submit; only `toolId` is required."""

    tool_id: str = Field(max_length=128)
    version: str | None = Field(None, max_length=64)
    """The highest version if missing."""
    path: str | None = Field(None, max_length=4096)
    """Same as `params.path`."""
    params: dict[str, Any] = Field(default_factory=dict)
    force: bool = False
    """Run even if an identical task exists."""
    callback_url: str | None = None
    """Webhook URL: the task's status is POSTed to it when the task has ended."""
    scheduled_at: Annotated[UtcTime | None, BeforeValidator(_only_text)] = None
    """Start time, up to 366 days ahead; a time in the past means now."""
    tags: list[Label] = Field(default_factory=list, max_length=5)
    metadata: Annotated[dict[str, Any], AfterValidator(_within_16_kib)] = Field(default_factory=dict)
    """Metadata of the client, returned in the status; up to 16 KiB."""
    unique_id: Annotated[str, Field(min_length=1, max_length=128), Printable] | None = None
    """An id that the client chooses; unique within the organization."""


class RestartBody(Body):
    """Changes of a restart against the earlier task."""

    params: dict[str, Any] = Field(default_factory=dict)
    """Params to change; all others are kept."""
    rerun_from: str | None = Field(None, max_length=128)
    """The stage to start at, for tools with stages."""


class SubmitResponse(ApiModel):
    """Submitted task, or the identical one that exists already."""

    task_id: UUID
    tool_id: str
    version: str
    deduplicated: bool
    status_url: str
    result_url: str
    estimated_output_bytes: int


class DryRunError(ApiModel):
    """Error that a submit would get."""

    pointer: str
    """JSON Pointer (RFC 6901) into the body; empty for errors of the whole body."""
    message: str
    code: str
    """The error code of the submit."""


class DryRunResponse(ApiModel):
    """Result of a dry run."""

    ok: bool
    errors: list[DryRunError]
    warnings: list[str]
    summary: dict[str, Any]
    """Inputs and outputs of the run; empty if there are errors."""


class OwnTasksResponse(ApiModel):
    """Page of the caller's tasks in all datasets."""

    count: int
    next: str | None
    """URL of the next page."""
    previous: str | None
    results: list[SystemTaskResponse]


class SystemTasksResponse(ApiModel):
    """Page of all tasks of the system."""

    items: list[SystemTaskResponse]
    total: int
    skip: int
    take: int


class LogResponse(ApiModel):
    """Lines of a task's log."""

    cursor: int
    """Cursor for the next request."""
    lines: list[str]
    truncated_from_tail: int
    """Number of oldest lines that are no longer stored."""


class DeleteTaskResponse(ApiModel):
    """State of a task after its deletion."""

    task_id: UUID
    state: TaskState


class ClearResponse(ApiModel):
    """Number of deleted tasks."""

    cleared: int
