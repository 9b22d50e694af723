"""Queries of tasks as clients see them: status, lists and artifacts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Integer,
    Text,
    and_,
    bindparam,
    case,
    func,
    literal,
    literal_column,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import InstrumentedAttribute

from aerotask.db.clock import db_now
from aerotask.db.engine import AnySelect
from aerotask.db.models import (
    Artifact,
    Dataset,
    Member,
    Organization,
    Task,
    TaskInput,
    TaskLogLine,
    User,
    Webhook,
)
from aerotask.domain.access import Visibility
from aerotask.domain.ids import DatasetId, TaskId, UserId
from aerotask.domain.states import TaskState, WaitReason
from aerotask.domain.webhooks import WebhookState
from aerotask.store.json_columns import JsonColumns, is_content, is_transition

TASK_CHANNEL = "aerotask_tasks"
"""Postgres channel that notifies the API, with the commit, of each task whose state, progress or log has changed.

The trigger `tell_of_task` (function `aerotask_tell_of_task`) of migration 0002 sends the notifications.
"""

LOG_TAIL_LINES = 20
SHOWN_ENTRIES = 1000
"""Shown inputs and outputs of a task; all of them may be a hundred thousand, which is twelve megabytes."""
LISTED_ENTRIES = 20
"""Shown inputs and outputs per task in a list of tasks."""


@dataclass(frozen=True, slots=True)
class ArtifactRow:
    """A downloadable file of a task."""

    file_name: str
    media_type: str
    blob_key: str
    size_bytes: int
    sha256: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class TaskRow:
    """A task with everything that its status shows."""

    id: TaskId
    org_slug: str
    dataset_slug: str
    user_id: UserId | None
    owner: str | None
    tool_id: str
    tool_version: str
    path: str | None
    params: dict[str, Any]
    tags: list[str]
    client_metadata: dict[str, Any]
    unique_id: str | None
    callback_url: str | None
    callback_completed: bool
    restart_of: TaskId | None
    state: TaskState
    waits_for: WaitReason | None
    history: list[Any]
    created_at: datetime
    due_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    attempt: int
    percent: float
    phase: str | None
    log_next: int
    log_tail: list[str]
    error_code: str | None
    error_message: str | None
    error_retryable: bool | None
    result: dict[str, Any] | None
    inputs: list[Any]
    """The first of `inputs_count`; likewise the outputs."""
    inputs_count: int
    outputs: list[Any]
    outputs_count: int
    estimated_output_bytes: int
    artifact_bytes: int
    artifact: ArtifactRow | None
    """None before there is one, and after it has expired."""
    damaged: tuple[str, ...] = ()
    """JSON columns that don't have the form that they were written in, and are empty here."""


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """Filter of a list of tasks; a member that is None doesn't restrict it."""

    ids: tuple[TaskId, ...] | None = None
    dataset_id: DatasetId | None = None
    owner_id: UserId | None = None
    readable_by: UserId | None = None
    """Only tasks in datasets that this user may read by membership, ownership or visibility."""
    tag: str | None = None
    tool_id: str | None = None
    state: TaskState | None = None
    path: str | None = None
    owner: str | None = None
    org_slug: str | None = None


_LOG_TAIL: ColumnElement[list[str]] = func.array(
    select(TaskLogLine.line)
    .where(TaskLogLine.task_id == Task.id, TaskLogLine.n >= Task.log_next - LOG_TAIL_LINES)
    .order_by(TaskLogLine.n)
    .correlate(Task)
    .scalar_subquery(),
    type_=ARRAY(Text),
)
_SHOWN = bindparam("shown_entries", SHOWN_ENTRIES, type_=Integer)
_INPUTS: ColumnElement[list[Any]] = func.array(
    select(func.jsonb_build_object("path", TaskInput.path, "hash", TaskInput.sha256))
    .where(TaskInput.task_id == Task.id)
    .order_by(TaskInput.path)
    .limit(_SHOWN)
    .correlate(Task)
    .scalar_subquery(),
    type_=ARRAY(JSONB),
)
_INPUTS_COUNT: ColumnElement[int] = (
    select(func.count()).where(TaskInput.task_id == Task.id).correlate(Task).scalar_subquery()
)
_OUTPUTS: ColumnElement[list[Any]] = func.jsonb_path_query_array(
    Task.outputs,
    literal_column("'$[0 to $end - 1]'"),
    func.jsonb_build_object("end", _SHOWN),
    type_=JSONB,
)
# Of the newest message: a task that was retried gets another one.
_CALLBACK_COMPLETED: ColumnElement[bool] = func.coalesce(
    select(Webhook.state == WebhookState.DELIVERED)
    .where(Webhook.task_id == Task.id)
    .order_by(Webhook.id.desc())
    .limit(1)
    .correlate(Task)
    .scalar_subquery(),
    literal(value=False),
)
UNEXPIRED = and_(Artifact.task_id == Task.id, Artifact.ordinal == 0, Artifact.expires_at > db_now())
_ARTIFACT = (
    Artifact.file_name,
    Artifact.media_type,
    Artifact.blob_key,
    Artifact.size_bytes,
    Artifact.sha256,
    Artifact.expires_at,
)


COLUMNS: tuple[ColumnElement[Any] | InstrumentedAttribute[Any], ...] = (
    Task.id,
    Organization.slug.label("org_slug"),
    Dataset.slug.label("dataset_slug"),
    Task.user_id,
    User.user_name.label("owner"),
    Task.tool_id,
    Task.tool_version,
    Task.path,
    Task.params,
    Task.tags,
    Task.client_metadata.label("client_metadata"),
    Task.unique_id,
    Task.callback_url,
    _CALLBACK_COMPLETED.label("callback_completed"),
    Task.restart_of,
    Task.state,
    Task.waits_for,
    Task.history,
    Task.created_at,
    Task.due_at,
    Task.started_at,
    Task.finished_at,
    Task.attempt,
    Task.percent,
    Task.phase,
    Task.log_next,
    _LOG_TAIL.label("log_tail"),
    Task.error_code,
    Task.error_message,
    Task.error_retryable,
    Task.result,
    _INPUTS.label("inputs"),
    _INPUTS_COUNT.label("inputs_count"),
    _OUTPUTS.label("outputs"),
    # The function fails on anything but an array, also for a list with one damaged row.
    case((func.jsonb_typeof(Task.outputs) == "array", func.jsonb_array_length(Task.outputs)), else_=0).label(
        "outputs_count"
    ),
    Task.estimated_output_bytes,
    Task.artifact_bytes,
    *_ARTIFACT,
)
"""Columns of `view`: of the task, its dataset and organization, `User` as its owner, and its artifact."""
_NAMES = tuple(str(column.key) for column in COLUMNS)

# Built once: building and adapting a statement costs more than running it.
_VIEWS: AnySelect = (
    select(*COLUMNS)
    .join(Dataset, Dataset.id == Task.dataset_id)
    .join(Organization, Organization.id == Task.org_id)
    .outerjoin(User, User.id == Task.user_id)
    .outerjoin(Artifact, UNEXPIRED)
)
_FIND = _VIEWS.where(Task.id == bindparam("task_id"), Task.dataset_id == bindparam("dataset_id"))


def view(values: Sequence[Any]) -> TaskRow:
    """A task from the values of `COLUMNS`."""
    columns: dict[str, Any] = dict(zip(_NAMES, values, strict=True))
    artifact = [columns.pop(column.key) for column in _ARTIFACT]
    columns["state"] = TaskState(columns["state"])
    if columns["waits_for"] is not None:
        columns["waits_for"] = WaitReason(columns["waits_for"])
    damaged = _check_json(columns)
    return TaskRow(
        **columns, artifact=None if artifact[0] is None else ArtifactRow(*artifact), damaged=damaged
    )


def _check_json(columns: dict[str, Any]) -> tuple[str, ...]:
    """Empties JSON columns without the expected form, and returns their names."""
    checked = JsonColumns()
    columns["params"] = checked.mapping("params", columns["params"])
    columns["client_metadata"] = checked.mapping("metadata", columns["client_metadata"])
    columns["result"] = checked.optional_mapping("result", columns["result"])
    columns["outputs"] = checked.items("outputs", columns["outputs"], is_content)
    columns["history"] = checked.items("history", columns["history"], is_transition)
    return checked.damaged("tasks", columns["id"])


async def find(connection: AsyncConnection, dataset_id: DatasetId, task_id: TaskId) -> TaskRow | None:
    """The dataset's task with that id."""
    params = {"task_id": task_id, "dataset_id": dataset_id}
    row = (await connection.execute(_FIND, params)).one_or_none()
    return None if row is None else view(row)


_DATASET = (
    select(Organization.slug, Dataset.slug)
    .select_from(Task)
    .join(Dataset, Dataset.id == Task.dataset_id)
    .join(Organization, Organization.id == Task.org_id)
    .where(Task.id == bindparam("task_id"))
)


async def find_dataset(connection: AsyncConnection, task_id: TaskId) -> tuple[str, str] | None:
    """The slugs of the organization and the dataset of a task."""
    row = (await connection.execute(_DATASET, {"task_id": task_id})).one_or_none()
    return None if row is None else (row[0], row[1])


async def find_all(connection: AsyncConnection, task_ids: Sequence[TaskId]) -> list[TaskRow]:
    """The existing tasks with these ids, in any dataset."""
    query = _VIEWS.where(Task.id.in_(task_ids))
    return [view(row) for row in await connection.execute(query)]


async def list_newest(
    connection: AsyncConnection, task_filter: TaskFilter, *, skip: int, take: int
) -> list[TaskRow]:
    """The tasks that pass the filter, newest first."""
    query = _VIEWS.where(*_conditions(task_filter)).order_by(Task.id.desc()).offset(skip).limit(take)
    rows = await connection.execute(query, {"shown_entries": LISTED_ENTRIES})
    return [view(row) for row in rows]


async def count(connection: AsyncConnection, task_filter: TaskFilter) -> int:
    """The number of tasks that pass the filter."""
    query = select(func.count()).select_from(Task)
    # A join that no condition needs would make Postgres read a whole table.
    if task_filter.org_slug is not None or task_filter.readable_by is not None:
        query = query.join(Organization, Organization.id == Task.org_id)
    if task_filter.readable_by is not None:
        query = query.join(Dataset, Dataset.id == Task.dataset_id)
    if task_filter.owner is not None:
        query = query.join(User, User.id == Task.user_id)
    return (await connection.execute(query.where(*_conditions(task_filter)))).scalar_one()


# The same condition as the partial index, which only contains tasks with tags.
_TAGGED = Task.tags != literal_column("'{}'")


def _conditions(task_filter: TaskFilter) -> list[ColumnElement[bool]]:
    pairs: list[tuple[ColumnElement[bool], object]] = [
        (Task.id.in_(task_filter.ids or ()), task_filter.ids),
        (Task.dataset_id == task_filter.dataset_id, task_filter.dataset_id),
        (Task.user_id == task_filter.owner_id, task_filter.owner_id),
        (_readable_by(task_filter.readable_by), task_filter.readable_by),
        (and_(Task.tags.contains([task_filter.tag]), _TAGGED), task_filter.tag),
        (Task.tool_id == task_filter.tool_id, task_filter.tool_id),
        (Task.state == task_filter.state, task_filter.state),
        (Task.path == task_filter.path, task_filter.path),
        (User.user_name == task_filter.owner, task_filter.owner),
        (Organization.slug == task_filter.org_slug, task_filter.org_slug),
    ]
    conditions = [condition for condition, value in pairs if value is not None]
    return (
        conditions if task_filter.dataset_id is not None else [*conditions, Task.dataset_id.not_in(_DELETED)]
    )


# Tasks of deleted datasets are hidden. These are few, until maintenance has removed them.
_DELETED = select(Dataset.id).where(Dataset.deleted_at.is_not(None))


def _readable_by(user_id: UserId | None) -> ColumnElement[bool]:
    member = select(Member.user_id).where(Member.org_id == Task.org_id, Member.user_id == user_id)
    return or_(Dataset.visibility != Visibility.PRIVATE, Organization.owner_id == user_id, member.exists())


async def list_artifacts(connection: AsyncConnection, task_id: TaskId) -> list[ArtifactRow]:
    """The files that the task offers for download, the result first; none once they have expired."""
    query = (
        select(*_ARTIFACT)
        .where(Artifact.task_id == task_id, Artifact.expires_at > db_now())
        .order_by(Artifact.ordinal)
    )
    return [ArtifactRow(*row) for row in await connection.execute(query)]


async def input_blobs(connection: AsyncConnection, task_id: TaskId) -> list[str]:
    """The blobs of the task's inputs."""
    query = select(TaskInput.blob_key).where(TaskInput.task_id == task_id)
    return list((await connection.execute(query)).scalars())
