"""Queries for users."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.domain.ids import UserId
from aerotask.store.engine import AnyRow
from aerotask.store.models import User


@dataclass(frozen=True, slots=True)
class UserRow:
    """A user, without the password."""

    id: UserId
    user_name: str
    email: str | None
    is_admin: bool
    is_deactivated: bool
    token_epoch: int
    created_at: datetime


_COLUMNS = (
    User.id,
    User.user_name,
    User.email,
    User.is_admin,
    User.is_deactivated,
    User.token_epoch,
    User.created_at,
)


def _user(row: AnyRow) -> UserRow:
    return UserRow(*row)


# Built once, since every request asks it: building and adapting a statement costs more than running it.
_FIND = select(*_COLUMNS).where(User.id == bindparam("user_id"))


async def find(connection: AsyncConnection, user_id: UserId) -> UserRow | None:
    """The user of that id."""
    row = (await connection.execute(_FIND, {"user_id": user_id})).one_or_none()
    return None if row is None else _user(row)


async def find_by_name(connection: AsyncConnection, user_name: str) -> UserRow | None:
    """The user of that name."""
    row = (await connection.execute(select(*_COLUMNS).where(User.user_name == user_name))).one_or_none()
    return None if row is None else _user(row)


async def password_hash(connection: AsyncConnection, user_id: UserId) -> str:
    """The stored hash of a user's password."""
    return (await connection.execute(select(User.password_hash).where(User.id == user_id))).scalar_one()


async def set_password_hash(connection: AsyncConnection, user_id: UserId, hashed: str) -> None:
    """Replace the stored hash of a user's password."""
    await connection.execute(update(User).where(User.id == user_id).values(password_hash=hashed))


async def list_all(connection: AsyncConnection) -> list[UserRow]:
    """Every user, by name."""
    return [_user(row) for row in await connection.execute(select(*_COLUMNS).order_by(User.user_name))]


async def any_exist(connection: AsyncConnection) -> bool:
    """Whether there is a user at all."""
    return (await connection.execute(select(User.id).limit(1))).first() is not None


async def add(  # noqa: PLR0913  the columns of a user
    connection: AsyncConnection,
    *,
    user_id: UserId,
    user_name: str,
    email: str | None,
    hashed: str,
    is_admin: bool,
) -> None:
    """Insert a user.

    Raises:
        sqlalchemy.exc.IntegrityError: the name is taken.
    """
    await connection.execute(
        insert(User).values(
            id=user_id, user_name=user_name, email=email, password_hash=hashed, is_admin=is_admin
        )
    )


async def set_roles(
    connection: AsyncConnection, user_id: UserId, *, is_admin: bool, is_deactivated: bool
) -> None:
    """Set what the user may do; the tokens of a deactivated user are void at once and for good."""
    values: dict[str, object] = {"is_admin": is_admin, "is_deactivated": is_deactivated}
    if is_deactivated:
        values["token_epoch"] = User.token_epoch + 1
    await connection.execute(update(User).where(User.id == user_id).values(**values))
