"""Queries for users."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import InstrumentedAttribute

from aerotask.db.engine import AnySelect
from aerotask.db.models import User
from aerotask.domain.ids import UserId


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
    subject: str | None
    """The user's subject at the external provider."""


def columns_of(user: type[User]) -> tuple[InstrumentedAttribute[Any], ...]:
    """The columns that `user_row` takes, of the table or an alias of it."""
    return (
        user.id,
        user.user_name,
        user.email,
        user.is_admin,
        user.is_deactivated,
        user.token_epoch,
        user.created_at,
        user.subject,
    )


_COLUMNS = columns_of(User)


def user_row(values: Sequence[Any]) -> UserRow:
    """A user from the values of `columns_of`."""
    return UserRow(*values)


# Built once, since it runs for every request: building and adapting a statement costs more than running it.
_FIND = select(*_COLUMNS).where(User.id == bindparam("user_id"))


async def find(connection: AsyncConnection, user_id: UserId) -> UserRow | None:
    """The user of that id."""
    row = (await connection.execute(_FIND, {"user_id": user_id})).one_or_none()
    return None if row is None else user_row(row)


async def find_by_name(connection: AsyncConnection, user_name: str) -> UserRow | None:
    """The user of that name."""
    row = (await connection.execute(select(*_COLUMNS).where(User.user_name == user_name))).one_or_none()
    return None if row is None else user_row(row)


async def find_with_password_hash(connection: AsyncConnection, user_name: str) -> tuple[UserRow, str] | None:
    """The user of that name, with their password's hash."""
    query: AnySelect = select(*_COLUMNS, User.password_hash).where(User.user_name == user_name)
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else (user_row(row[:-1]), row[-1])


async def lock(connection: AsyncConnection, user_id: UserId) -> None:
    """Locks the user against other callers until the transaction ends, so that their things can be counted."""
    query = select(User.id).where(User.id == user_id)
    await connection.execute(query.with_for_update(key_share=True))


async def password_hash(connection: AsyncConnection, user_id: UserId) -> str | None:
    """The hash of a user's password; None if the user is removed."""
    query = select(User.password_hash).where(User.id == user_id)
    return (await connection.execute(query)).scalar_one_or_none()


async def change_password_hash(
    connection: AsyncConnection, user_id: UserId, hashed: str, *, instead_of: str | None = None
) -> int | None:
    """Replaces the hash of a user's password and revokes every token.

    Returns:
        The user's new token epoch; None if the user is removed, or the hash is no longer `instead_of`.
    """
    change = update(User).where(User.id == user_id)
    if instead_of is not None:
        change = change.where(User.password_hash == instead_of)
    changed = change.values(password_hash=hashed, token_epoch=User.token_epoch + 1)
    return (await connection.execute(changed.returning(User.token_epoch))).scalar_one_or_none()


async def renew_password_hash(
    connection: AsyncConnection, user_id: UserId, hashed: str, *, instead_of: str
) -> None:
    """Replaces the hash by another one of the same password."""
    await connection.execute(
        update(User).where(User.id == user_id, User.password_hash == instead_of).values(password_hash=hashed)
    )


async def end_sessions(connection: AsyncConnection, user_id: UserId) -> None:
    """Revokes every token of the user."""
    await connection.execute(update(User).where(User.id == user_id).values(token_epoch=User.token_epoch + 1))


async def find_by_subject(connection: AsyncConnection, issuer: str, subject: str) -> UserRow | None:
    """The user linked to that subject of the external provider."""
    query = select(*_COLUMNS).where(User.issuer == issuer, User.subject == subject)
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else user_row(row)


async def set_subject(
    connection: AsyncConnection, user_id: UserId, *, issuer: str | None, subject: str | None
) -> None:
    """Links the user to a subject of the external provider.

    Raises:
        sqlalchemy.exc.IntegrityError: the subject is linked to another user.
    """
    await connection.execute(update(User).where(User.id == user_id).values(issuer=issuer, subject=subject))


async def remove(connection: AsyncConnection, user_id: UserId) -> None:
    """Removes a user; their organizations and tasks lose their owner."""
    await connection.execute(delete(User).where(User.id == user_id))


async def list_all(connection: AsyncConnection) -> list[UserRow]:
    """All users, by name."""
    return [user_row(row) for row in await connection.execute(select(*_COLUMNS).order_by(User.user_name))]


async def any_exist(connection: AsyncConnection) -> bool:
    """True if there is any user."""
    return (await connection.execute(select(User.id).limit(1))).first() is not None


async def add(  # noqa: PLR0913  the columns of a user
    connection: AsyncConnection,
    *,
    user_id: UserId,
    user_name: str,
    email: str | None,
    hashed: str,
    is_admin: bool,
    issuer: str | None = None,
    subject: str | None = None,
) -> None:
    """Inserts a user.

    Raises:
        sqlalchemy.exc.IntegrityError: the name is taken, or the subject is linked to another user.
    """
    await connection.execute(
        insert(User).values(
            id=user_id,
            user_name=user_name,
            email=email,
            password_hash=hashed,
            is_admin=is_admin,
            issuer=issuer,
            subject=subject,
        )
    )


async def set_roles(
    connection: AsyncConnection, user_id: UserId, *, is_admin: bool, is_deactivated: bool
) -> None:
    """Sets the user's roles; deactivation revokes their tokens for good."""
    values: dict[str, object] = {"is_admin": is_admin, "is_deactivated": is_deactivated}
    if is_deactivated:
        values["token_epoch"] = User.token_epoch + 1
    await connection.execute(update(User).where(User.id == user_id).values(**values))
