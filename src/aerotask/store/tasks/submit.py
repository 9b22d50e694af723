"""Queries of a submit: duplicates and the insert, run under locks that hold until it commits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnExpressionArgument,
    Select,
    Text,
    and_,
    bindparam,
    func,
    insert,
    or_,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import ARRAY, INTERVAL
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.db.clock import db_now, iso_now
from aerotask.db.engine import AnySelect
from aerotask.db.models import Artifact, Dataset, Organization, Task, TaskInput, in_states
from aerotask.domain.ids import DatasetId, OrgId, TaskId, UserId
from aerotask.domain.states import ACTIVE, TaskState, WaitReason
from aerotask.store.queue.claims import TaskInputRow
from aerotask.store.queue.retention import retain_blobs
from aerotask.store.queue.transitions import move
from aerotask.store.tasks.quota import USAGE, QuotaScope, QuotaUsage


@dataclass(frozen=True, slots=True)
class NewTask:
    """A task about to be inserted."""

    id: TaskId
    org_id: OrgId
    dataset_id: DatasetId
    user_id: UserId | None
    tool_id: str
    tool_version: str
    path: str | None
    params: dict[str, Any]
    dedup_key: bytes
    """Hash of tool, version, params and input contents; equal for duplicates."""
    estimated_output_bytes: int
    memory_bytes: int
    writes: tuple[str, ...]
    inputs: tuple[TaskInputRow, ...]
    scheduled_at: datetime | None = None
    """Earliest start: the task is Scheduled, and `admission` lets it go ahead then; None means now."""
    tags: tuple[str, ...] = ()
    client_metadata: Mapping[str, Any] = field(default_factory=dict)
    unique_id: str | None = None
    restart_of: TaskId | None = None
    callback_url: str | None = None


@dataclass(frozen=True, slots=True)
class Duplicate:
    """An existing task that is returned for an identical submit."""

    id: TaskId
    estimated_output_bytes: int


@dataclass(frozen=True, slots=True)
class DedupMatch:
    """Match criteria of a duplicate: it is active, or succeeded recently and still has its artifact.

    A task that is scheduled for a later time than the submit is no duplicate, nor one with another callback URL.
    """

    dataset_id: DatasetId
    dedup_key: bytes
    lookback: timedelta
    needs_artifact: bool
    active_only: bool
    scheduled_at: datetime | None = None
    callback_url: str | None = None

    def bindings(self) -> dict[str, Any]:
        """The parameters of the queries."""
        return {
            "dataset_id": self.dataset_id,
            "dedup_key": self.dedup_key,
            "lookback": self.lookback,
            "scheduled_at": self.scheduled_at,
            "callback_url": self.callback_url,
        }


async def find_duplicate(connection: AsyncConnection, match: DedupMatch) -> Duplicate | None:
    """The newest duplicate of the submit."""
    query = _duplicate_query(needs_artifact=match.needs_artifact, active_only=match.active_only)
    row = (await connection.execute(query, match.bindings())).one_or_none()
    return None if row is None else Duplicate(TaskId(row[0]), row[1])


# Statements are built once: a submit runs them while it holds locks.
@cache
def _duplicate_query(*, needs_artifact: bool, active_only: bool) -> Select[UUID, int]:
    requested = bindparam("scheduled_at", type_=Task.due_at.type)
    later = and_(Task.waits_for == WaitReason.TIME, Task.due_at > func.coalesce(requested, db_now()))
    matches: ColumnExpressionArgument[bool] = and_(in_states(ACTIVE), later.is_not(true()))
    if not active_only:
        since = db_now() - bindparam("lookback", type_=INTERVAL)
        recent = and_(Task.state == TaskState.SUCCEEDED, Task.finished_at > since)
        if needs_artifact:
            recent = and_(recent, Artifact.task_id.is_not(None))
        matches = or_(matches, recent)
    return (
        select(Task.id, Task.estimated_output_bytes)
        .outerjoin(
            Artifact,
            and_(Artifact.task_id == Task.id, Artifact.ordinal == 0, Artifact.expires_at > db_now()),
        )
        .where(
            Task.dataset_id == bindparam("dataset_id"),
            Task.dedup_key == bindparam("dedup_key"),
            matches,
            Task.callback_url.is_not_distinct_from(
                func.coalesce(bindparam("callback_url", type_=Text), Task.callback_url)
            ),
        )
        .order_by(Task.id.desc())
        .limit(1)
    )


@dataclass(frozen=True, slots=True)
class UniqueIdOwner:
    """The task that owns a `uniqueId`, with its dataset."""

    id: TaskId
    dataset_id: DatasetId
    org_slug: str
    dataset_slug: str


_UNIQUE_ID_OWNER = (
    select(Task.id, Dataset.id, Organization.slug, Dataset.slug)
    .join(Organization, Organization.id == Task.org_id)
    .join(Dataset, Dataset.id == Task.dataset_id)
    .where(Task.org_id == bindparam("org_id"), Task.unique_id == bindparam("unique_id"))
)


async def find_unique_id_owner(
    connection: AsyncConnection, org_id: OrgId, unique_id: str
) -> UniqueIdOwner | None:
    """The organization's task with that `uniqueId`."""
    row = (
        await connection.execute(_UNIQUE_ID_OWNER, {"org_id": org_id, "unique_id": unique_id})
    ).one_or_none()
    return None if row is None else UniqueIdOwner(TaskId(row[0]), DatasetId(row[1]), row[2], row[3])


async def find_duplicate_and_usage(
    connection: AsyncConnection, match: DedupMatch, scope: QuotaScope
) -> tuple[Duplicate | None, QuotaUsage]:
    """`find_duplicate` and `quota.read_usage` in one statement."""
    query = _duplicate_and_usage(needs_artifact=match.needs_artifact, active_only=match.active_only)
    bindings = {**match.bindings(), **scope.bindings()}
    duplicate_id, estimated, *usage = (await connection.execute(query, bindings)).one()
    duplicate = None if duplicate_id is None else Duplicate(TaskId(duplicate_id), estimated)
    return duplicate, QuotaUsage(*usage)


@cache
def _duplicate_and_usage(*, needs_artifact: bool, active_only: bool) -> AnySelect:
    duplicate = _duplicate_query(needs_artifact=needs_artifact, active_only=active_only).subquery("duplicate")
    usage = USAGE.subquery("usage")
    return select(*duplicate.c, *usage.c).select_from(usage.outerjoin(duplicate, true()))


_ADD = upsert(Task).values(
    history=func.jsonb_build_array(
        func.jsonb_build_object(
            *("at", iso_now()),
            *("from", None),
            *("to", TaskState.CREATED.value),
            *("by", bindparam("actor", type_=Text)),
            *("reason", "submitted"),
        )
    )
)
_ADD_UNIQUE = _ADD.on_conflict_do_nothing(
    index_elements=[Task.org_id, Task.unique_id], index_where=Task.unique_id.is_not(None)
)


class UniqueIdTaken(Exception):
    """Another task of the organization has this `uniqueId`."""


async def add(connection: AsyncConnection, task: NewTask, *, actor: str) -> set[str]:
    """Insert the task in state Created, with its inputs, whose blobs it keeps from being removed.

    Returns:
        The blobs of inputs that no row references any more; if there are any, the caller must roll back.

    Raises:
        UniqueIdTaken: a committed task has this `uniqueId`; an uncommitted one is waited for.
    """
    columns = {
        "id": task.id,
        "org_id": task.org_id,
        "dataset_id": task.dataset_id,
        "user_id": task.user_id,
        "tool_id": task.tool_id,
        "tool_version": task.tool_version,
        "path": task.path,
        "params": task.params,
        "dedup_key": task.dedup_key,
        "estimated_output_bytes": task.estimated_output_bytes,
        "memory_bytes": task.memory_bytes,
        "writes": list(task.writes),
        "tags": list(task.tags),
        "metadata": dict(task.client_metadata),
        "unique_id": task.unique_id,
        "restart_of": task.restart_of,
        "state": TaskState.CREATED,
        "callback_url": task.callback_url,
    }
    statement = _ADD if task.unique_id is None else _ADD_UNIQUE
    added = await connection.execute(statement, {**columns, "actor": actor})
    if not added.rowcount:
        raise UniqueIdTaken
    unreferenced = await _add_inputs(connection, task.id, task.inputs)
    if task.scheduled_at is not None:
        scheduled = move(
            TaskState.SCHEDULED,
            actor=actor,
            reason="waits for its time",
            waits_for=WaitReason.TIME,
            due_at=task.scheduled_at,
        )
        await connection.execute(scheduled.where(Task.id == task.id))
    return unreferenced


_ADD_INPUTS = insert(TaskInput).from_select(
    ["task_id", "path", "sha256", "blob_key"],
    select(
        bindparam("task_id", type_=TaskInput.task_id.type),
        *(func.unnest(bindparam(name, type_=ARRAY(Text))) for name in ("paths", "sha256s", "blob_keys")),
    ),
)


async def _add_inputs(
    connection: AsyncConnection, task_id: TaskId, inputs: Sequence[TaskInputRow]
) -> set[str]:
    if not inputs:
        return set()
    columns = {
        "paths": [item.path for item in inputs],
        "sha256s": [item.sha256 for item in inputs],
        "blob_keys": [item.blob_key for item in inputs],
    }
    unreferenced = await retain_blobs(connection, columns["blob_keys"])
    await connection.execute(_ADD_INPUTS, {"task_id": task_id, **columns})
    return unreferenced
