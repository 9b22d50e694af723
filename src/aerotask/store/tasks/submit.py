"""Queries of a submit: duplicates, quota usage and the insert, run under locks that hold until it commits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    ColumnExpressionArgument,
    Select,
    Text,
    and_,
    any_,
    bindparam,
    func,
    insert,
    literal_column,
    or_,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import ARRAY, INTERVAL
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.db.async_commit import ASYNC_COMMIT
from aerotask.db.clock import db_now, iso_now, tx_now
from aerotask.db.engine import AnySelect
from aerotask.db.locks import LockSpace
from aerotask.db.models import Artifact, Dataset, Organization, Task, TaskInput, in_states
from aerotask.domain.ids import DatasetId, OrgId, TaskId, UserId
from aerotask.domain.states import ACTIVE, TaskState, WaitReason
from aerotask.store.queue.claims import TaskInputRow
from aerotask.store.queue.retention import retain_blobs
from aerotask.store.queue.transitions import move


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
    """Earliest start; None or a time in the past means now."""
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
class QuotaScope:
    """Selects the tasks that a submitter's quotas count."""

    org_id: OrgId
    user_id: UserId | None
    period: timedelta
    """The time for which artifacts count after their creation."""
    class_tools: frozenset[str] = frozenset()
    """The ids of the tools that share the submitted one's quota class."""

    def bindings(self) -> dict[str, Any]:
        """The parameters of the queries."""
        return {
            "org_id": self.org_id,
            "user_id": self.user_id,
            "period": self.period,
            "class_tools": list(self.class_tools),
        }


@dataclass(frozen=True, slots=True)
class QuotaUsage:
    """Usage that one submitter's quotas limit: active tasks and bytes of artifacts."""

    active: int
    active_in_org: int
    active_of_user: int
    active_in_class_of_user: int
    """Tasks of the tools that share the submitted one's quota class."""
    artifact_bytes_in_org: int
    """Bytes of recent artifacts of the organization, and the estimated bytes of its active tasks."""


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


_OF_USER = Task.user_id.is_not_distinct_from(bindparam("user_id", type_=Task.user_id.type))
_IN_ORG = Task.org_id == bindparam("org_id")
_IN_CLASS = Task.tool_id == any_(bindparam("class_tools", type_=ARRAY(Text)))
_ARTIFACT_BYTES = (
    select(func.coalesce(func.sum(Task.artifact_bytes), 0))
    .where(
        _IN_ORG,
        Task.artifact_bytes
        > literal_column("0"),  # a parameter would keep Postgres from using the partial index
        Task.finished_at > tx_now() - bindparam("period", type_=INTERVAL),
    )
    .scalar_subquery()
)
_USAGE = select(
    func.count().label("active"),
    func.count().filter(_IN_ORG).label("active_in_org"),
    func.count().filter(_OF_USER).label("active_of_user"),
    func.count().filter(_OF_USER, _IN_CLASS).label("active_in_class_of_user"),
    (func.coalesce(func.sum(Task.estimated_output_bytes).filter(_IN_ORG), 0) + _ARTIFACT_BYTES)
    .cast(BigInteger)
    .label("artifact_bytes_in_org"),
).where(in_states(ACTIVE))


async def quota_usage(connection: AsyncConnection, scope: QuotaScope) -> QuotaUsage:
    """Count active tasks, and artifacts of the period; anonymous callers count as one user."""
    return QuotaUsage(*(await connection.execute(_USAGE, scope.bindings())).one())


# Migration 0006, which creates the function, explains it. Of its columns, `bulk_downloads_of_user` is no longer read.
_USAGE_UNDER_LOCK = select(
    ASYNC_COMMIT,
    *func.load_under_lock(
        literal_column(str(int(LockSpace.QUOTA))),
        bindparam("org_id", type_=Task.org_id.type),
        bindparam("user_id", type_=Task.user_id.type),
        bindparam("period", type_=INTERVAL),
        bindparam("besides", type_=Task.id.type),
    )
    .table_valued("active", "active_in_org", "active_of_user", "artifact_bytes_in_org")
    .c,
)
_IN_CLASS_UNDER_LOCK = select(func.count()).where(
    in_states(ACTIVE),
    _OF_USER,
    _IN_CLASS,
    Task.id.is_distinct_from(bindparam("besides", type_=Task.id.type)),
)


async def quota_usage_under_lock(
    connection: AsyncConnection, scope: QuotaScope, *, excluding: TaskId | None = None
) -> QuotaUsage:
    """As `quota_usage`, without the task `excluding`, under the global quota lock.

    The lock is released by the commit, without waiting for its WAL flush (`db/async_commit.py`).
    """
    bindings = {**scope.bindings(), "besides": excluding}
    _, active, in_org, of_user, artifact_bytes = (await connection.execute(_USAGE_UNDER_LOCK, bindings)).one()
    in_class = 0
    if scope.class_tools:  # a separate statement, whose snapshot is younger than the lock
        in_class = (await connection.execute(_IN_CLASS_UNDER_LOCK, bindings)).scalar_one()
    return QuotaUsage(active, in_org, of_user, in_class, artifact_bytes)


async def find_duplicate_and_usage(
    connection: AsyncConnection, match: DedupMatch, scope: QuotaScope
) -> tuple[Duplicate | None, QuotaUsage]:
    """`find_duplicate` and `quota_usage` in one statement."""
    query = _duplicate_and_usage(needs_artifact=match.needs_artifact, active_only=match.active_only)
    bindings = {**match.bindings(), **scope.bindings()}
    duplicate_id, estimated, *usage = (await connection.execute(query, bindings)).one()
    duplicate = None if duplicate_id is None else Duplicate(TaskId(duplicate_id), estimated)
    return duplicate, QuotaUsage(*usage)


@cache
def _duplicate_and_usage(*, needs_artifact: bool, active_only: bool) -> AnySelect:
    duplicate = _duplicate_query(needs_artifact=needs_artifact, active_only=active_only).subquery("duplicate")
    usage = _USAGE.subquery("usage")
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
        later = move(
            TaskState.SCHEDULED,
            actor=actor,
            reason="waits for its time",
            waits_for=WaitReason.TIME,
            due_at=task.scheduled_at,
        )
        await connection.execute(later.where(Task.id == task.id, Task.created_at < task.scheduled_at))
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
