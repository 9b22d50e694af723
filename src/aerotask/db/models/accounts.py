"""Tables of users, API keys, organizations, members and the audit log."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Index,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from aerotask.db.models.base import Model, one_of
from aerotask.domain.access import Membership


class User(Model):
    """A user; tokens with an older `token_epoch` are revoked."""

    __tablename__ = "users"
    __table_args__ = (UniqueConstraint("issuer", "subject"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_name: Mapped[str] = mapped_column(unique=True)
    email: Mapped[str | None]
    # Empty for users who sign in with the external provider only.
    password_hash: Mapped[str]
    is_admin: Mapped[bool] = mapped_column(server_default=text("false"))
    is_deactivated: Mapped[bool] = mapped_column(server_default=text("false"))
    token_epoch: Mapped[int] = mapped_column(server_default=text("0"))
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    # The user's identity at the external provider.
    issuer: Mapped[str | None]
    subject: Mapped[str | None]


class ApiKey(Model):
    """A key with which a program acts for a user; only its digest is stored."""

    __tablename__ = "api_keys"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    name: Mapped[str]
    digest: Mapped[bytes] = mapped_column(unique=True)
    read_only: Mapped[bool]
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    expires_at: Mapped[datetime]
    last_used_at: Mapped[datetime | None]


class LoginAttempts(Model):
    """Recent failed sign-ins of an account or from an address."""

    __tablename__ = "sign_in_attempts"

    bucket: Mapped[str] = mapped_column(primary_key=True)
    failures: Mapped[int]
    window_ends_at: Mapped[datetime] = mapped_column(index=True)


class AuditEvent(Model):
    """An event of the audit log; names are copied, since users and targets may be removed."""

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
    """An organization, which owns datasets; its owner and system administrators have every right in it."""

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
    """A user's permissions in an organization."""

    __tablename__ = "members"
    __table_args__ = (CheckConstraint(one_of("permissions", Membership), name="permissions"),)

    org_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"), primary_key=True)
    user_id: Mapped[UUID] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, index=True
    )
    permissions: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
