"""Task status as the API, event streams and webhooks show it, and its entity tag."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote
from uuid import UUID

from pydantic import Field

from aerotask.domain.states import TaskState, WaitReason
from aerotask.representations.base import ApiModel, Moment, RowModel, damaged_members
from aerotask.store.tasks.tasks import ArtifactRow, TaskRow

_ETAG_BYTES = 12


class ProgressResponse(ApiModel):
    """Progress of a task."""

    percent: float
    phase: str | None
    message: str | None
    """The last line of the log."""


class ArtifactResponse(ApiModel):
    """The result file of a task."""

    file_name: str
    content_type: str
    size_bytes: int
    sha256: str
    result_url: str
    expires_at: Moment


class TaskErrorResponse(ApiModel):
    """Error of a failed task."""

    code: str
    message: str
    retryable: bool


class InputResponse(ApiModel):
    """An entry as the task read or wrote it."""

    path: str
    hash: str


class AssetResponse(ApiModel):
    """A file that a task offers for download."""

    name: str
    content_type: str
    size_bytes: int
    sha256: str
    url: str
    expires_at: Moment


class TransitionResponse(ApiModel):
    """A change of a task's state."""

    at: str
    from_: TaskState | None = Field(alias="from")
    to: TaskState
    by: str
    reason: str


class TaskResponse(RowModel):
    """A task's status."""

    task_id: UUID
    tool_id: str
    version: str
    state: TaskState
    waiting_for: WaitReason | None
    """The reason why a Scheduled task waits."""
    progress: ProgressResponse
    created_at: Moment
    scheduled_at: Moment | None
    started_at: Moment | None
    finished_at: Moment | None
    processing_time_ms: int
    """-1 before it starts; up to now while it runs."""
    attempt: int
    path: str | None
    params: dict[str, Any]
    tags: list[str]
    metadata: dict[str, Any]
    unique_id: str | None
    owner: str | None
    estimated_output_bytes: int
    log_cursor: int
    log_tail: list[str]
    artifact: ArtifactResponse | None
    error: TaskErrorResponse | None
    result: dict[str, Any] | None
    warnings: int
    """The number of warnings in the result's `warnings`."""
    inputs: list[InputResponse]
    """The first 1000 by path; in a list of tasks the first 20."""
    inputs_count: int
    """The total number."""
    outputs: list[InputResponse]
    """The first 1000 entries that the task put; in a list of tasks the first 20."""
    outputs_count: int
    """The total number."""
    callback_url: str | None
    callback_completed: bool
    """Whether the webhook about the task's last end was delivered."""
    parent_task_id: UUID | None
    """The task that this one is a part of; always null, since tools have no parts yet."""
    restart_of: UUID | None
    history: list[TransitionResponse]


class SystemTaskResponse(TaskResponse):
    """A task as administrators see it."""

    org_slug: str
    ds_slug: str
    user_id: UUID | None


def task_response(row: TaskRow) -> TaskResponse:
    """A task's status."""
    return TaskResponse.model_construct(**_task_fields(row))


def system_task_response(row: TaskRow) -> SystemTaskResponse:
    """A task's status, with its organization, dataset and user."""
    return SystemTaskResponse.model_construct(
        **_task_fields(row), org_slug=row.org_slug, ds_slug=row.dataset_slug, user_id=row.user_id
    )


def progress_response(row: TaskRow) -> ProgressResponse:
    """The task's progress."""
    return ProgressResponse.model_construct(
        percent=round(row.percent, 1),
        phase=row.phase,
        message=row.log_tail[-1] if row.log_tail else None,
    )


def asset_response(row: TaskRow, asset: ArtifactRow) -> AssetResponse:
    """One of a task's files for download."""
    return AssetResponse.model_construct(
        name=asset.file_name,
        content_type=asset.media_type,
        size_bytes=asset.size_bytes,
        sha256=asset.sha256,
        url=f"{_address(row)}/assets/{quote(asset.file_name, safe='')}",
        expires_at=asset.expires_at,
    )


def etag_of(status: TaskResponse) -> str:
    """The entity tag (RFC 9110, section 8.8.3), in quotes, of a status without its processing time."""
    return _etag(_without_time(status))


def etag_and_json(status: TaskResponse) -> tuple[str, str]:
    """The entity tag and the JSON of a status, serialised only once."""
    content = _without_time(status)
    time = TaskResponse.model_fields["processing_time_ms"].alias
    return _etag(content), f'{content[:-1]},"{time}":{status.processing_time_ms}}}'


def _without_time(status: TaskResponse) -> str:
    return status.model_dump_json(by_alias=True, exclude={"processing_time_ms"})


def _etag(content: str) -> str:
    return f'"{hashlib.blake2b(content.encode(), digest_size=_ETAG_BYTES).hexdigest()}"'


def _address(row: TaskRow) -> str:
    return f"/orgs/{row.org_slug}/ds/{row.dataset_slug}/tasks/{row.id}"


def _task_fields(row: TaskRow) -> dict[str, Any]:
    # Rows are checked when they are read, so this skips a second validation.
    return {
        "task_id": row.id,
        "tool_id": row.tool_id,
        "version": row.tool_version,
        "state": row.state,
        "waiting_for": row.waits_for,
        "progress": progress_response(row),
        "created_at": row.created_at,
        "scheduled_at": row.due_at if row.due_at > row.created_at else None,
        "started_at": row.started_at,
        "finished_at": row.finished_at,
        "processing_time_ms": _processing_time_ms(row),
        "attempt": row.attempt,
        "path": row.path,
        "params": row.params,
        "tags": row.tags,
        "metadata": row.client_metadata,
        "unique_id": row.unique_id,
        "owner": row.owner,
        "estimated_output_bytes": row.estimated_output_bytes,
        "log_cursor": row.log_next,
        "log_tail": row.log_tail,
        "artifact": _artifact(row),
        "error": _error(row),
        "result": row.result,
        "warnings": _warnings_count(row),
        "inputs": [InputResponse.model_construct(**item) for item in row.inputs],
        "inputs_count": row.inputs_count,
        "outputs_count": row.outputs_count,
        "outputs": [InputResponse.model_construct(**item) for item in row.outputs],
        "callback_url": row.callback_url,
        "callback_completed": row.callback_completed,
        "parent_task_id": None,
        "restart_of": row.restart_of,
        "history": [
            TransitionResponse.model_construct(
                at=event["at"],
                from_=None if event["from"] is None else TaskState(event["from"]),
                to=TaskState(event["to"]),
                by=event["by"],
                reason=event["reason"],
            )
            for event in row.history
        ],
        "damaged": damaged_members(row.damaged),
    }


def _warnings_count(row: TaskRow) -> int:
    warnings = (row.result or {}).get("warnings")
    return len(warnings) if isinstance(warnings, list) else 0


def _processing_time_ms(row: TaskRow) -> int:
    if row.started_at is None:
        return -1
    end = row.finished_at or datetime.now(UTC)
    return max(0, round((end - row.started_at).total_seconds() * 1000))


def _artifact(row: TaskRow) -> ArtifactResponse | None:
    artifact = row.artifact
    if artifact is None:
        return None
    return ArtifactResponse.model_construct(
        file_name=artifact.file_name,
        content_type=artifact.media_type,
        size_bytes=artifact.size_bytes,
        sha256=artifact.sha256,
        result_url=f"{_address(row)}/result",
        expires_at=artifact.expires_at,
    )


def _error(row: TaskRow) -> TaskErrorResponse | None:
    if row.error_code is None:
        return None
    return TaskErrorResponse.model_construct(
        code=row.error_code,
        message=row.error_message or "",
        retryable=bool(row.error_retryable),
    )
