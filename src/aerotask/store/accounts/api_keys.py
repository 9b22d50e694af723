"""Queries for API keys, which are stored as digests only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import bindparam, delete, func, insert, literal_column, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.db.clock import db_now, seconds
from aerotask.db.models import ApiKey, User
from aerotask.domain.ids import UserId

# Precision of `last_used_at`; otherwise every request would be a write.
USE_RECORDED_EVERY_S = 60


@dataclass(frozen=True, slots=True)
class ApiKeyRow:
    """A key's description for its owner, without the key itself."""

    id: UUID
    name: str
    read_only: bool
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True)
class ApiKeyOwner:
    """A key with its owner."""

    key_id: UUID
    user_id: UserId
    user_name: str
    is_admin: bool
    token_epoch: int
    read_only: bool
    expired: bool
    use_is_stale: bool


_COLUMNS = (
    ApiKey.id,
    ApiKey.name,
    ApiKey.read_only,
    ApiKey.created_at,
    ApiKey.expires_at,
    ApiKey.last_used_at,
)
_FIND_OWNER = (
    select(
        ApiKey.id,
        User.id,
        User.user_name,
        User.is_admin,
        User.token_epoch,
        ApiKey.read_only,
        ApiKey.expires_at <= db_now(),
        or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at < db_now(plus_s=-USE_RECORDED_EVERY_S)),
    )
    .join(User, User.id == ApiKey.user_id)
    .where(ApiKey.digest == bindparam("digest"), User.is_deactivated.is_(literal_column("false")))
)


async def find_owner(connection: AsyncConnection, digest: bytes) -> ApiKeyOwner | None:
    """The owner of the key with that digest, even if it has expired; None if the user is deactivated."""
    row = (await connection.execute(_FIND_OWNER, {"digest": digest})).one_or_none()
    if row is None:
        return None
    key_id, user_id, user_name, is_admin, epoch, read_only, expired, use_is_stale = row
    return ApiKeyOwner(key_id, UserId(user_id), user_name, is_admin, epoch, read_only, expired, use_is_stale)


async def is_valid(connection: AsyncConnection, user_id: UserId, key_id: UUID) -> bool:
    """True if the user has that key and it has not expired."""
    query = select(ApiKey.id).where(
        ApiKey.id == key_id, ApiKey.user_id == user_id, ApiKey.expires_at > db_now()
    )
    return (await connection.execute(query)).first() is not None


async def record_use(connection: AsyncConnection, key_id: UUID) -> None:
    """Sets the key's time of last use to now."""
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
    """Inserts a key that expires in `ttl_s`."""
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
    """The user's keys, oldest first."""
    query = select(*_COLUMNS).where(ApiKey.user_id == user_id).order_by(ApiKey.id)
    return [ApiKeyRow(*row) for row in await connection.execute(query)]


async def remove(connection: AsyncConnection, user_id: UserId, key_id: UUID) -> str | None:
    """Removes a key of the user and returns its name; None if there is no such key."""
    statement = delete(ApiKey).where(ApiKey.id == key_id, ApiKey.user_id == user_id).returning(ApiKey.name)
    return (await connection.execute(statement)).scalar_one_or_none()


async def remove_all_of(connection: AsyncConnection, user_id: UserId) -> None:
    """Removes every key of the user."""
    await connection.execute(delete(ApiKey).where(ApiKey.user_id == user_id))
