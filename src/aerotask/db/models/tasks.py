"""Tables of tasks, their inputs, logs, artifacts and webhooks."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ColumnClause,
    ForeignKey,
    Index,
    Integer,
    UniqueConstraint,
    literal_column,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from aerotask.db.models.base import Model, PathText, in_states, one_of
from aerotask.domain.states import ACTIVE, TERMINAL, WAITING, TaskState, WaitReason
from aerotask.domain.webhooks import WebhookState

# Conditions with literals: with parameters no partial index would serve them.
UNADMITTED = text(f"waits_for = '{WaitReason.TIME}'")
"""Condition for tasks that were scheduled for later and that `store.queue.admission` has not admitted yet."""
ADMITTED = text(f"{in_states(ACTIVE).text} AND waits_for IS DISTINCT FROM '{WaitReason.TIME}'")
"""Condition for all other tasks that wait or run: those that quotas count as active."""
ANYBODY: ColumnClause[UUID] = literal_column("'00000000-0000-0000-0000-000000000000'::uuid")
"""The user id of tasks without a user, where null can't be compared by an index."""


class Task(Model):
    """A run of a tool. `history` grows in the same UPDATE that changes the state."""

    __tablename__ = "tasks"
    __table_args__ = (
        CheckConstraint(one_of("state", TaskState), name="state"),
        CheckConstraint("(state = 'Processing') = (lease_token IS NOT NULL)", name="lease"),
        Index("ix_tasks_newest", "dataset_id", "id"),
        Index("ix_tasks_newest_of_user", "user_id", "id"),
        # Partial, since few tasks have tags and every change of state would write to the index.
        Index("ix_tasks_tags", "tags", postgresql_using="gin", postgresql_where=text("tags <> '{}'")),
        Index("ix_tasks_dedup", "dataset_id", "dedup_key"),
        Index("ix_tasks_waiting", "due_at", postgresql_where=in_states(WAITING)),
        # The claim walks from submitter to submitter.
        Index(
            "ix_tasks_submitters",
            "org_id",
            text(f"coalesce(user_id, {ANYBODY.name})"),
            "due_at",
            "id",
            postgresql_where=in_states(WAITING),
        ),
        Index("ix_tasks_active", "org_id", "user_id", postgresql_where=in_states(ACTIVE)),
        # For quotas: what they count, what is due and may count soon, and what each user has scheduled.
        Index("ix_tasks_admitted", "org_id", "user_id", postgresql_where=ADMITTED),
        Index("ix_tasks_due", "due_at", postgresql_where=UNADMITTED),
        Index(
            "ix_tasks_scheduled",
            text(f"coalesce(user_id, {ANYBODY.name})"),
            "due_at",
            postgresql_where=UNADMITTED,
        ),
        Index("ix_tasks_running", "worker_no", postgresql_where=text("state = 'Processing'")),
        Index(
            "ix_tasks_made",
            "org_id",
            "finished_at",
            postgresql_where=text("artifact_bytes > 0"),
            postgresql_include=["artifact_bytes"],
        ),
        Index("ix_tasks_ended", "finished_at", postgresql_where=in_states(TERMINAL)),
        Index(
            "uq_tasks_unique_id",
            "org_id",
            "unique_id",
            unique=True,
            postgresql_where=text("unique_id IS NOT NULL"),
        ),
        CheckConstraint("(state = 'Scheduled') = (waits_for IS NOT NULL)", name="waits_for"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    org_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"))
    dataset_id: Mapped[UUID] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"))
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))

    tool_id: Mapped[str]
    tool_version: Mapped[str]
    path: Mapped[str | None]
    params: Mapped[dict[str, Any]]
    dedup_key: Mapped[bytes]
    estimated_output_bytes: Mapped[int] = mapped_column(BigInteger)
    memory_bytes: Mapped[int] = mapped_column(BigInteger)
    writes: Mapped[list[str]] = mapped_column(server_default=text("'{}'"))
    tags: Mapped[list[str]] = mapped_column(server_default=text("'{}'"))
    # `metadata` is SQLAlchemy's own name on a model.
    client_metadata: Mapped[dict[str, Any]] = mapped_column("metadata", server_default=text("'{}'"))
    unique_id: Mapped[str | None]
    callback_url: Mapped[str | None]
    restart_of: Mapped[UUID | None]

    state: Mapped[str]
    waits_for: Mapped[str | None]
    history: Mapped[list[Any]] = mapped_column(server_default=text("'[]'"))
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    due_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]

    attempt: Mapped[int] = mapped_column(server_default=text("0"))
    failed_attempts: Mapped[int] = mapped_column("strikes", server_default=text("0"))
    lease_token: Mapped[UUID | None]
    lease_until: Mapped[datetime | None]
    renewed_at: Mapped[datetime | None]
    worker_no: Mapped[int | None] = mapped_column(Integer)

    percent: Mapped[float] = mapped_column(server_default=text("0"))
    phase: Mapped[str | None]
    log_next: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    log_dropped: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    log_bytes: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))

    error_code: Mapped[str | None]
    error_message: Mapped[str | None]
    error_retryable: Mapped[bool | None]
    result: Mapped[dict[str, Any] | None]
    outputs: Mapped[list[Any]] = mapped_column(server_default=text("'[]'"))
    artifact_bytes: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))


class TaskInput(Model):
    """An input's content at the time of submit; the reference keeps its blob."""

    __tablename__ = "task_inputs"

    task_id: Mapped[UUID] = mapped_column(ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True)
    path: Mapped[str] = mapped_column(PathText, primary_key=True)
    sha256: Mapped[str]
    blob_key: Mapped[str] = mapped_column(index=True)


class TaskLogLine(Model):
    """A line of a task's log; `n` counts from 0 without gaps, by `tasks.log_next`."""

    __tablename__ = "task_log"

    task_id: Mapped[UUID] = mapped_column(ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True)
    n: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    line: Mapped[str]


class Artifact(Model):
    """A file for download made by a task; ordinal 0 is its result, the others are extra files."""

    __tablename__ = "artifacts"
    __table_args__ = (UniqueConstraint("task_id", "file_name"),)

    task_id: Mapped[UUID] = mapped_column(ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True)
    ordinal: Mapped[int] = mapped_column(primary_key=True, server_default=text("0"))
    file_name: Mapped[str]
    media_type: Mapped[str]
    blob_key: Mapped[str] = mapped_column(index=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    expires_at: Mapped[datetime] = mapped_column(index=True)


class IdempotencyKey(Model):
    """The response to the first submit with an idempotency key, for repeated submits."""

    __tablename__ = "idempotency_keys"

    caller: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[bytes]
    answer: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"), index=True)


class Webhook(Model):
    """A webhook message about the end of a task; `tries` grows until it is delivered or abandoned."""

    __tablename__ = "callbacks"
    __table_args__ = (
        CheckConstraint(one_of("state", WebhookState), name="state"),
        Index("ix_callbacks_due", "due_at", postgresql_where=text("state = 'waiting'")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    task_id: Mapped[UUID] = mapped_column(ForeignKey("tasks.id", ondelete="CASCADE"), index=True)
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    url: Mapped[str]
    body: Mapped[bytes]
    state: Mapped[str] = mapped_column(server_default="waiting")
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    due_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    tries: Mapped[int] = mapped_column(server_default=text("0"))
    attempts: Mapped[list[Any]] = mapped_column(server_default=text("'[]'"))
