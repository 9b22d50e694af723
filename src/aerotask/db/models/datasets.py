"""Tables of datasets, entries, uploads, derivatives and links."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    SmallInteger,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from aerotask.db.models.base import Model, PathText, one_of
from aerotask.domain.access import LinkScope, Visibility

INDEX_ORG = "coalesce(index_org_id, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid)"
"""The organization whose turn it is to have an entry indexed; none of its own for entries of an older version."""


class Dataset(Model):
    """A named set of entries; `deleted_at` hides it until maintenance has removed its rows."""

    __tablename__ = "datasets"
    __table_args__ = (
        UniqueConstraint("org_id", "slug"),
        CheckConstraint(one_of("visibility", Visibility), name="visibility"),
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
    """Number and total size of a dataset's entries, maintained by triggers on `entries`."""

    __tablename__ = "dataset_usage"

    dataset_id: Mapped[UUID] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"), primary_key=True)
    entries: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    size_bytes: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))


class Upload(Model):
    """A resumable upload as announced; the length of its partial file is its offset."""

    __tablename__ = "uploads"
    __table_args__ = (Index("ix_uploads_open", "dataset_id", postgresql_where=text("finished_at IS NULL")),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    dataset_id: Mapped[UUID] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"))
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"), index=True)
    path: Mapped[str] = mapped_column(PathText)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    # The client's Upload-Metadata header, returned unchanged.
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
        # The indexer's queue: entries that aren't indexed, those that were given up, and rasters that wait for their
        # overviews, by lane and organization.
        Index(
            "ix_entries_index_queue",
            "index_lane",
            text(INDEX_ORG),
            "index_due_at",
            "id",
            postgresql_where=text("NOT indexed OR index_lane >= 3"),
        ),
        Index("ix_entries_blob_key", "blob_key"),
        Index("ix_entries_by_type", "dataset_id", "type", "path"),
        Index("ix_entries_placed", "dataset_id", "path", postgresql_where=text("point_geom IS NOT NULL")),
        # Finds the entries with a content, for each derivative that may be unused.
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
    # The queue's lane (`IndexLane`), and the organization whose turn it is.
    index_lane: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    index_org_id: Mapped[UUID | None]


class Derivative(Model):
    """A file made from an entry's content, kept while an entry of the dataset has that content.

    `source_key` identifies the content together with its sidecar files (a Shapefile's other files), so that an entry
    can be renamed, copied, or removed and added again without losing its derivatives.
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


class Link(Model):
    """A signed link to an entry with all below it (`path` is empty for the whole dataset), or to a task.

    Only the digest of its token is stored. Entries and tasks are no foreign keys, whose checks would slow down the
    removal of many: without the entry at this path, or without the task, the link opens nothing.
    """

    __tablename__ = "links"
    __table_args__ = (
        Index("ix_links_dataset_id", "dataset_id", "id"),
        CheckConstraint(one_of("scope", LinkScope), name="scope"),
        CheckConstraint("(task_id IS NULL) <> (path IS NULL)", name="target"),
        CheckConstraint("(entry_id IS NULL) = (path IS NULL OR path = '')", name="entry"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    digest: Mapped[bytes] = mapped_column(unique=True)
    dataset_id: Mapped[UUID] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"))
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    # The maker's token epoch and API key, with which the link ends.
    epoch: Mapped[int]
    key_id: Mapped[UUID | None]
    task_id: Mapped[UUID | None]
    entry_id: Mapped[UUID | None]
    path: Mapped[str | None] = mapped_column(PathText)
    scope: Mapped[str]
    note: Mapped[str] = mapped_column(server_default="")
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    expires_at: Mapped[datetime] = mapped_column(index=True)
