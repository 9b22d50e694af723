"""The tables. Classes give the queries typed columns; rows travel as plain values, never as live objects."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Text,
    TextClause,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TIMESTAMP
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from aerotask.domain.access import Membership, Visibility
from aerotask.domain.callbacks import CallbackState
from aerotask.domain.states import ACTIVE, TERMINAL, WAITING, TaskState

# Compared byte by byte whatever the database's locale is, so that an index serves prefix searches.
PathText = Text(collation="C")


def _one_of(column: str, values: type[StrEnum]) -> str:
    return f"{column} IN ({', '.join(repr(str(value)) for value in values)})"


def in_states(states: frozenset[TaskState]) -> TextClause:
    """A task's state is one of these, as literals: with parameters no partial index would serve it."""
    return text(f"state IN ({', '.join(repr(str(state)) for state in sorted(states))})")


class Model(DeclarativeBase):
    """Base of the tables: named constraints, and the column types that Python types stand for."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        datetime: TIMESTAMP(timezone=True),
        dict[str, Any]: JSONB(none_as_null=True),
        list[Any]: JSONB,
        list[str]: ARRAY(Text),
        bytes: LargeBinary,
        str: Text,
    }


class User(Model):
    """Somebody who can sign in; tokens of an older `token_epoch` don't hold any more."""

    __tablename__ = "users"
    __table_args__ = (UniqueConstraint("issuer", "subject"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_name: Mapped[str] = mapped_column(unique=True)
    email: Mapped[str | None]
    # Empty for those who sign in with the external provider alone.
    password_hash: Mapped[str]
    is_admin: Mapped[bool] = mapped_column(server_default=text("false"))
    is_deactivated: Mapped[bool] = mapped_column(server_default=text("false"))
    token_epoch: Mapped[int] = mapped_column(server_default=text("0"))
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    # Who they are for the external provider.
    issuer: Mapped[str | None]
    subject: Mapped[str | None]


class ApiKey(Model):
    """A key with which a program acts for a user; of the key itself only a digest is kept."""

    __tablename__ = "api_keys"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    name: Mapped[str]
    digest: Mapped[bytes] = mapped_column(unique=True)
    read_only: Mapped[bool]
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    expires_at: Mapped[datetime]
    last_used_at: Mapped[datetime | None]


class SignInAttempts(Model):
    """How many sign-ins failed lately, for one account or from one address."""

    __tablename__ = "sign_in_attempts"

    bucket: Mapped[str] = mapped_column(primary_key=True)
    failures: Mapped[int]
    window_ends_at: Mapped[datetime] = mapped_column(index=True)


class AuditEvent(Model):
    """Something that somebody may have to answer for; names stand as they were, since users and things go."""

    __tablename__ = "audit_events"
    __table_args__ = (
        Index("ix_audit_events_of_action", "action", "id"),
        Index("ix_audit_events_of_actor", "actor", "id"),
        Index("ix_audit_events_of_target", "target", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=text("now()"), index=True)
    actor: Mapped[str]
    actor_id: Mapped[UUID | None]
    address: Mapped[str | None]
    action: Mapped[str]
    target: Mapped[str]
    details: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))


class Organization(Model):
    """Owns datasets; its owner and the system's administrators may do everything in it."""

    __tablename__ = "organizations"
    __table_args__ = (
        Index("ix_organizations_deleted", "deleted_at", postgresql_where=text("deleted_at IS NOT NULL")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    slug: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    description: Mapped[str] = mapped_column(server_default="")
    is_public: Mapped[bool] = mapped_column(server_default=text("false"))
    owner_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"), index=True)
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    deleted_at: Mapped[datetime | None]


class Member(Model):
    """What a user was given in an organization."""

    __tablename__ = "members"
    __table_args__ = (CheckConstraint(_one_of("permissions", Membership), name="permissions"),)

    org_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"), primary_key=True)
    user_id: Mapped[UUID] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, index=True
    )
    permissions: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))


class Dataset(Model):
    """A named set of entries; with `deleted_at` nobody sees it any more, and the sweep removes it bit by bit."""

    __tablename__ = "datasets"
    __table_args__ = (
        UniqueConstraint("org_id", "slug"),
        CheckConstraint(_one_of("visibility", Visibility), name="visibility"),
        Index("ix_datasets_deleted", "deleted_at", postgresql_where=text("deleted_at IS NOT NULL")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    org_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"))
    slug: Mapped[str]
    name: Mapped[str]
    tagline: Mapped[str] = mapped_column(server_default="")
    visibility: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    deleted_at: Mapped[datetime | None]


class DatasetUsage(Model):
    """How many entries a dataset has, and their bytes in all; triggers on `entries` keep it."""

    __tablename__ = "dataset_usage"

    dataset_id: Mapped[UUID] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"), primary_key=True)
    entries: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    size_bytes: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))


class Upload(Model):
    """A resumable upload as it was announced; how much of it has come is the length of its growing file."""

    __tablename__ = "uploads"
    __table_args__ = (Index("ix_uploads_open", "dataset_id", postgresql_where=text("finished_at IS NULL")),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    dataset_id: Mapped[UUID] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"))
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"), index=True)
    path: Mapped[str] = mapped_column(PathText)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    # The client's own header, which is given back as it came.
    client_metadata: Mapped[str] = mapped_column("metadata", server_default="")
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    expires_at: Mapped[datetime] = mapped_column(index=True)
    finished_at: Mapped[datetime | None]


class Entry(Model):
    """A file or folder of a dataset; a file's content is the blob that `blob_key` names."""

    __tablename__ = "entries"
    __table_args__ = (
        UniqueConstraint("dataset_id", "path"),
        Index("ix_entries_children", "dataset_id", "parent", "path"),
        # The indexer's queue: what a worker has still to look into.
        Index("ix_entries_unindexed", "index_due_at", postgresql_where=text("NOT indexed")),
        Index("ix_entries_blob_key", "blob_key"),
        Index("ix_entries_by_type", "dataset_id", "type", "path"),
        Index("ix_entries_placed", "dataset_id", "path", postgresql_where=text("point_geom IS NOT NULL")),
        # What has this content: asked for each derivative that may be of no use any more.
        Index("ix_entries_content", "dataset_id", "sha256", postgresql_where=text("blob_key IS NOT NULL")),
        CheckConstraint("(type = 'directory') = (blob_key IS NULL)", name="content"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    dataset_id: Mapped[UUID] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"))
    path: Mapped[str] = mapped_column(PathText)
    parent: Mapped[str] = mapped_column(PathText)
    depth: Mapped[int]
    type: Mapped[str]
    sha256: Mapped[str] = mapped_column(server_default="")
    blob_key: Mapped[str | None]
    size_bytes: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    modified_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    properties: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    point_geom: Mapped[dict[str, Any] | None]
    polygon_geom: Mapped[dict[str, Any] | None]
    indexed: Mapped[bool] = mapped_column(server_default=text("false"))
    index_attempts: Mapped[int] = mapped_column(server_default=text("0"))
    index_due_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    index_token: Mapped[UUID | None]


class Derivative(Model):
    """A file made from an entry's content, for as long as an entry of the dataset has that content.

    `source_key` tells the content and what belongs to it (a Shapefile's other files), so that an entry may be
    renamed, copied, removed and put again without losing what was made of it.
    """

    __tablename__ = "derivatives"
    __table_args__ = (Index("ix_derivatives_content", "dataset_id", "content_sha256"),)

    dataset_id: Mapped[UUID] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"), primary_key=True)
    source_key: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    content_sha256: Mapped[str]
    builder: Mapped[str]
    blob_key: Mapped[str] = mapped_column(index=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str]
    properties: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))


class Task(Model):
    """A run of a tool, from submit to its end. `history` grows in the very UPDATE that moves the state."""

    __tablename__ = "tasks"
    __table_args__ = (
        CheckConstraint(_one_of("state", TaskState), name="state"),
        CheckConstraint("(state = 'Processing') = (lease_token IS NOT NULL)", name="lease"),
        Index("ix_tasks_newest", "dataset_id", "id"),
        Index("ix_tasks_newest_of_user", "user_id", "id"),
        # Few tasks have tags, and every change of a state would write into this index again.
        Index("ix_tasks_tags", "tags", postgresql_using="gin", postgresql_where=text("tags <> '{}'")),
        Index("ix_tasks_dedup", "dataset_id", "dedup_key"),
        Index("ix_tasks_waiting", "due_at", postgresql_where=in_states(WAITING)),
        # Whose tasks wait, and since when: the claim goes from submitter to submitter.
        Index(
            "ix_tasks_submitters",
            "org_id",
            text("coalesce(user_id, '00000000-0000-0000-0000-000000000000'::uuid)"),
            "due_at",
            "id",
            postgresql_where=in_states(WAITING),
        ),
        Index("ix_tasks_active", "org_id", "user_id", postgresql_where=in_states(ACTIVE)),
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
    strikes: Mapped[int] = mapped_column(server_default=text("0"))
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
    """The content that a task reads, as it was at submit; keeps the blob while the task needs it."""

    __tablename__ = "task_inputs"

    task_id: Mapped[UUID] = mapped_column(ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True)
    path: Mapped[str] = mapped_column(PathText, primary_key=True)
    sha256: Mapped[str]
    blob_key: Mapped[str] = mapped_column(index=True)


class TaskLogLine(Model):
    """A line of a task's log; `n` counts from 0 without gap, by the counter `tasks.log_next`."""

    __tablename__ = "task_log"

    task_id: Mapped[UUID] = mapped_column(ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True)
    n: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    line: Mapped[str]


class Artifact(Model):
    """A file that a task made for download; the one with ordinal 0 is its result, the others stand beside it."""

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
    """The first answer to a submit that came with a key, for whoever sends it again."""

    __tablename__ = "idempotency_keys"

    caller: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[bytes]
    answer: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"), index=True)


class Callback(Model):
    """A message that somebody is owed about the end of a task; `tries` grows until it is delivered or given up."""

    __tablename__ = "callbacks"
    __table_args__ = (
        CheckConstraint(_one_of("state", CallbackState), name="state"),
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
