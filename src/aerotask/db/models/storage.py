"""Tables about the storage: its installation, its unnamed, released and damaged blobs, and checks of it."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Identity, text
from sqlalchemy.orm import Mapped, mapped_column

from aerotask.db.models.base import Model


class Installation(Model):
    """The installation, in one row; its storage has the same id in a marker file.

    `held_blobs` is the number of unnamed blobs whose removal waits for an operator's confirmation.
    """

    __tablename__ = "installation"
    __table_args__ = (CheckConstraint("singleton", name="one_row"),)

    singleton: Mapped[bool] = mapped_column(primary_key=True, server_default=text("true"))
    id: Mapped[UUID]
    held_blobs: Mapped[int] = mapped_column(server_default=text("0"))


class UnnamedBlob(Model):
    """A stored blob that no row names, with the time when maintenance first saw it so."""

    __tablename__ = "unnamed_blobs"

    blob_key: Mapped[str] = mapped_column(primary_key=True)
    seen_at: Mapped[datetime] = mapped_column(server_default=text("now()"), index=True)


class ReleasedBlob(Model):
    """A blob that an entry or derivative had until it was removed or replaced; another row may still name it.

    Triggers add these rows. A blob may have several, so that no transaction ever waits for another one here.
    """

    __tablename__ = "released_blobs"

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    blob_key: Mapped[str]
    released_at: Mapped[datetime] = mapped_column(server_default=text("now()"))


class DamagedBlob(Model):
    """A stored file that was found to differ from its row; removed once it is intact again or no longer needed."""

    __tablename__ = "damaged_blobs"

    blob_key: Mapped[str] = mapped_column(primary_key=True)
    reason: Mapped[str]
    found_at: Mapped[datetime] = mapped_column(server_default=text("now()"))


class StorageCheck(Model):
    """A check of all blobs that has not reached its end; blobs are checked in the order of their keys."""

    __tablename__ = "storage_checks"

    depth: Mapped[str] = mapped_column(primary_key=True)
    after_key: Mapped[str]
    blobs: Mapped[int] = mapped_column(BigInteger)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    started_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
