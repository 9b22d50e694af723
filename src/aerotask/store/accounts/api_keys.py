"""Queries for API keys; a key is found by its digest, and nothing else of it is stored."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import bindparam, delete, func, insert, literal_column, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.db.clock import db_now, seconds
from aerotask.db.models import ApiKey, User
from aerotask.domain.ids import UserId

# How exactly `last_used_at` is known: each request would be a write otherwise.
USE_NOTED_EVERY_S = 60


@dataclass(frozen=True, slots=True)
class ApiKeyRow:
    """A key as its owner sees it again: without the key."""

    id: UUID
    name: str
    read_only: bool
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True)
class ApiKeyOwner:
    """Whom a key stands for."""

    key_id: UUID
    user_id: UserId
    user_name: str
    is_admin: bool
    token_epoch: int
    read_only: bool
    expired: bool
    use_unnoted: bool


_COLUMNS = (
    ApiKey.id,
    ApiKey.name,
    ApiKey.read_only,
    ApiKey.created_at,
    ApiKey.expires_at,
    ApiKey.last_used_at,
)
_FIND_HOLDER = (
    select(
        ApiKey.id,
        User.id,
        User.user_name,
        User.is_admin,
        User.token_epoch,
        ApiKey.read_only,
        ApiKey.expires_at <= db_now(),
        or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at < db_now(plus_s=-USE_NOTED_EVERY_S)),
    )
    .join(User, User.id == ApiKey.user_id)
    .where(ApiKey.digest == bindparam("digest"), User.is_deactivated.is_(literal_column("false")))
)


async def find_holder(connection: AsyncConnection, digest: bytes) -> ApiKeyOwner | None:
    """Whom the key of that digest stands for, expired or not; nobody if they are deactivated."""
    row = (await connection.execute(_FIND_HOLDER, {"digest": digest})).one_or_none()
    if row is None:
        return None
    key_id, user_id, user_name, is_admin, epoch, read_only, expired, use_unnoted = row
    return ApiKeyOwner(key_id, UserId(user_id), user_name, is_admin, epoch, read_only, expired, use_unnoted)


async def holds(connection: AsyncConnection, user_id: UserId, key_id: UUID) -> bool:
    """Whether the user has that key and it has not expired."""
    query = select(ApiKey.id).where(
        ApiKey.id == key_id, ApiKey.user_id == user_id, ApiKey.expires_at > db_now()
    )
    return (await connection.execute(query)).first() is not None


async def note_use(connection: AsyncConnection, key_id: UUID) -> None:
    """The key has been used now."""
    await connection.execute(update(ApiKey).where(ApiKey.id == key_id).values(last_used_at=db_now()))


async def add(  # noqa: PLR0913  the columns of a key
    connection: AsyncConnection,
    *,
    key_id: UUID,
    user_id: UserId,
    name: str,
    digest: bytes,
    read_only: bool,
    ttl_s: int,
) -> ApiKeyRow:
    """Insert a key that holds from now for so long."""
    values = {
        "id": key_id,
        "user_id": user_id,
        "name": name,
        "digest": digest,
        "read_only": read_only,
        "expires_at": func.now() + seconds(ttl_s),
    }
    row = (await connection.execute(insert(ApiKey).values(values).returning(*_COLUMNS))).one()
    return ApiKeyRow(*row)


async def list_of(connection: AsyncConnection, user_id: UserId) -> list[ApiKeyRow]:
    """A user's keys, oldest first."""
    query = select(*_COLUMNS).where(ApiKey.user_id == user_id).order_by(ApiKey.id)
    return [ApiKeyRow(*row) for row in await connection.execute(query)]


async def remove(connection: AsyncConnection, user_id: UserId, key_id: UUID) -> str | None:
    """Remove a key of the user; its name, None if they have no such key."""
    gone = delete(ApiKey).where(ApiKey.id == key_id, ApiKey.user_id == user_id).returning(ApiKey.name)
    return (await connection.execute(gone)).scalar_one_or_none()


async def remove_all_of(connection: AsyncConnection, user_id: UserId) -> None:
    """Remove every key of the user."""
    await connection.execute(delete(ApiKey).where(ApiKey.user_id == user_id))
