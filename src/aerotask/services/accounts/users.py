"""Users: their management by administrators, and their own profile."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy.exc import IntegrityError

from aerotask.db.engine import Database
from aerotask.domain.access import ANONYMOUS, Caller
from aerotask.domain.audit import AuditAction
from aerotask.domain.errors import Conflict, Forbidden, InvalidInput, NotFound
from aerotask.domain.ids import UserId, new_id
from aerotask.services.accounts.passwords import Passwords
from aerotask.services.accounts.permissions import require_admin, require_user
from aerotask.store.accounts import api_keys, audit, users
from aerotask.store.accounts.users import UserRow

USER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}")


@dataclass(frozen=True, slots=True)
class UserChange:
    """An administrator's changes to a user; None leaves a value as it is."""

    is_admin: bool
    is_deactivated: bool
    password: str | None = None
    subject: str | None = None


@dataclass(frozen=True, slots=True)
class _NewUser:
    user_name: str
    email: str | None
    is_admin: bool
    is_deactivated: bool = False


@dataclass(frozen=True, slots=True)
class UserService:
    """Management of users."""

    db: Database
    passwords: Passwords
    issuer: str | None
    """The external provider that users may be linked to."""

    async def list_users(self, caller: Caller) -> list[UserRow]:
        """All users; for administrators."""
        require_admin(caller)
        async with self.db.read() as connection:
            return await users.list_all(connection)

    async def me(self, caller: Caller) -> UserRow:
        """The signed-in user."""
        async with self.db.read() as connection:
            user = await users.find(connection, require_user(caller))
        if user is None:
            raise NotFound("The user has been removed.")
        return user

    async def create_user(  # noqa: PLR0913  the properties of a user
        self,
        caller: Caller,
        *,
        user_name: str,
        password: str,
        email: str | None,
        is_admin: bool,
        is_deactivated: bool = False,
    ) -> UserRow:
        """Creates a user; for administrators.

        Raises:
            InvalidInput: the name or the password is not allowed.
            Conflict: the name is taken.
        """
        require_admin(caller)
        new = _NewUser(user_name, email, is_admin=is_admin, is_deactivated=is_deactivated)
        return await self._add(caller, new, password)

    async def change_user(self, caller: Caller, user_name: str, change: UserChange) -> UserRow:
        """Changes a user's roles, password or linked subject; for administrators.

        A new password ends the user's sessions; deactivation also removes their API keys.

        Raises:
            NotFound: there is no such user.
            Forbidden: administrators can't remove their own rights.
            InvalidInput: the password is not allowed, or no provider is configured.
            Conflict: the subject is linked to another user.
        """
        require_admin(caller)
        if user_name == caller.user_name and (change.is_deactivated or not change.is_admin):
            raise Forbidden("Administrators can't remove their own rights; ask another administrator.")
        if change.subject is not None and self.issuer is None:
            raise InvalidInput(
                "No external sign-in provider is configured, so users have no subject.", code="no-issuer"
            )
        async with self.db.read() as connection:  # before the slow hashing
            if await users.find_by_name(connection, user_name) is None:
                raise _no_user(user_name)
        hashed = None if change.password is None else await self.passwords.hash(change.password)
        try:
            return await self._change(caller, user_name, change, hashed)
        except IntegrityError as error:
            raise Conflict("The subject is linked to another user.", code="subject-taken") from error

    async def delete_user(self, caller: Caller, user_name: str) -> None:
        """Removes a user with their tokens and keys; their organizations and tasks lose their owner. For administrators.

        Raises:
            NotFound: there is no such user.
            Forbidden: administrators can't remove themselves.
        """
        require_admin(caller)
        if user_name == caller.user_name:
            raise Forbidden("Administrators can't remove themselves; ask another administrator.")
        async with self.db.begin() as connection:
            user = await users.find_by_name(connection, user_name)
            if user is None:
                raise _no_user(user_name)
            await users.remove(connection, user.id)
            await audit.record(connection, caller, AuditAction.USER_DELETED, user.user_name)

    async def ensure_first_admin(
        self, password: str | None, *, keep: Callable[[str], None] | None = None
    ) -> str | None:
        """Creates the administrator `admin` if there are no users; returns the password if one was generated.

        `keep` gets a generated password before the user exists, so that it can't be lost.
        """
        async with self.db.read() as connection:
            if await users.any_exist(connection):
                return None
        generated = None if password else generate_password()
        if generated and keep:
            keep(generated)
        try:
            await self._add(ANONYMOUS, _NewUser("admin", None, is_admin=True), password or generated or "")
        except Conflict:  # another process created it
            return None
        return generated

    async def _change(
        self, caller: Caller, user_name: str, change: UserChange, hashed: str | None
    ) -> UserRow:
        async with self.db.begin() as connection:
            user = await users.find_by_name(connection, user_name)
            if user is None:
                raise _no_user(user_name)
            await users.set_roles(
                connection, user.id, is_admin=change.is_admin, is_deactivated=change.is_deactivated
            )
            if change.is_deactivated:
                await api_keys.remove_all_of(connection, user.id)
            if hashed is not None:
                await users.change_password_hash(connection, user.id, hashed)
            if change.subject is not None:
                subject = change.subject or None
                await users.set_subject(
                    connection, user.id, issuer=self.issuer if subject else None, subject=subject
                )
            await audit.record(
                connection,
                caller,
                AuditAction.USER_CHANGED,
                user.user_name,
                admin=change.is_admin,
                deactivated=change.is_deactivated,
                newPassword=hashed is not None,
                newSubject=change.subject is not None,
            )
            return await users.find(connection, user.id) or user

    async def _add(self, caller: Caller, new: _NewUser, password: str) -> UserRow:
        if not USER_NAME.fullmatch(new.user_name):
            raise InvalidInput(
                "A user name must have 1 to 128 letters, digits and . _ @ + - and start with a letter or digit.",
                code="invalid-user-name",
            )
        hashed = await self.passwords.hash(password)
        user_id = UserId(new_id())
        try:
            async with self.db.begin() as connection:
                await users.add(
                    connection,
                    user_id=user_id,
                    user_name=new.user_name,
                    email=new.email,
                    hashed=hashed,
                    is_admin=new.is_admin,
                )
                if new.is_deactivated:
                    await users.set_roles(connection, user_id, is_admin=new.is_admin, is_deactivated=True)
                await audit.record(
                    connection,
                    caller,
                    AuditAction.USER_CREATED,
                    new.user_name,
                    admin=new.is_admin,
                    deactivated=new.is_deactivated,
                )
                added = await users.find(connection, user_id)
        except IntegrityError as error:
            raise Conflict(f"The user name '{new.user_name}' is taken.", code="user-name-taken") from error
        if added is None:
            raise NotFound("The user has been removed.")
        return added


def generate_password() -> str:
    """A random password."""
    return secrets.token_urlsafe(12)


def _no_user(user_name: str) -> NotFound:
    return NotFound(f"There is no user '{user_name}'.")
