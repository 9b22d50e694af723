"""Signing in: passwords, bearer tokens, users."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from uuid import UUID

import jwt
from argon2 import PasswordHasher
from argon2.exceptions import VerificationError
from sqlalchemy.exc import IntegrityError

from aerotask.domain.access import ANONYMOUS, Caller
from aerotask.domain.errors import Conflict, Forbidden, InvalidInput, NotFound, Unauthenticated
from aerotask.domain.ids import UserId, new_id
from aerotask.services.access import require_admin, require_user
from aerotask.store import users
from aerotask.store.engine import Database
from aerotask.store.users import UserRow

ALGORITHM = "HS256"
_AUDIENCE = "aerotask"
MIN_PASSWORD_CHARS = 8
MAX_PASSWORD_CHARS = 1024
_USER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}")


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token and when it ends."""

    user_name: str
    token: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class _Claims:
    """What a token with a good signature says."""

    user_id: UserId
    epoch: int
    expires_s: float


@dataclass(frozen=True, slots=True)
class AccountService:
    """Knows passwords and tokens; nobody else sees either."""

    db: Database
    secret: str
    token_ttl: timedelta
    hasher: PasswordHasher
    # Compared with when there is no such user, so that the answer takes as long as for a wrong password.
    decoy_hash: str

    async def sign_in(self, user_name: str, password: str) -> Token:
        """A token for the user of that name and password.

        Raises:
            Unauthenticated: name or password are wrong, or the user is deactivated; it doesn't say which.
        """
        async with self.db.read() as connection:
            user = await users.find_by_name(connection, user_name[:128])
            hashed = await users.password_hash(connection, user.id) if user else self.decoy_hash
        fits = await asyncio.to_thread(self._verify, hashed, password)
        if user is None or not fits or user.is_deactivated:
            raise Unauthenticated("The user name or the password is wrong.", code="bad-credentials")
        return self._token(user)

    async def refresh(self, caller: Caller) -> Token:
        """A fresh token for the signed-in caller."""
        async with self.db.read() as connection:
            user = await users.find(connection, require_user(caller))
        if user is None:
            raise Unauthenticated("The user is gone.", code="bad-credentials")
        return self._token(user)

    async def caller(self, token: str | None) -> Caller:
        """Who presents the token; a token that doesn't hold leaves them anonymous, with the reason."""
        if token is None:
            return ANONYMOUS
        try:
            claims = _verified(token, self.secret)
        except (jwt.InvalidTokenError, ValueError, TypeError, AttributeError):
            return _rejected("The token is not valid; sign in again.")
        if claims.expires_s <= time.time():
            return _rejected("The token has expired; sign in again.")
        async with self.db.read() as connection:
            user = await users.find(connection, claims.user_id)
        if user is None or user.is_deactivated or user.token_epoch != claims.epoch:
            return _rejected("The token has been revoked; sign in again.")
        return Caller(user_id=user.id, user_name=user.user_name, is_admin=user.is_admin)

    async def list_users(self, caller: Caller) -> list[UserRow]:
        """Every user; for administrators."""
        require_admin(caller)
        async with self.db.read() as connection:
            return await users.list_all(connection)

    async def me(self, caller: Caller) -> UserRow:
        """The signed-in user."""
        async with self.db.read() as connection:
            user = await users.find(connection, require_user(caller))
        if user is None:
            raise NotFound("The user is gone.")
        return user

    async def create_user(
        self, caller: Caller, *, user_name: str, password: str, email: str | None, is_admin: bool
    ) -> UserRow:
        """Add a user; for administrators.

        Raises:
            InvalidInput: the name or the password won't do.
            Conflict: the name is taken.
        """
        require_admin(caller)
        return await self._add(user_name, password, email=email, is_admin=is_admin)

    async def set_roles(
        self, caller: Caller, user_name: str, *, is_admin: bool, is_deactivated: bool
    ) -> UserRow:
        """Make a user an administrator or not, deactivated or not; for administrators.

        Raises:
            NotFound: there is no such user.
            Forbidden: administrators can't lock themselves out.
        """
        require_admin(caller)
        if user_name == caller.user_name and (is_deactivated or not is_admin):
            raise Forbidden("Administrators can't take their own rights away; ask another one.")
        async with self.db.begin() as connection:
            user = await users.find_by_name(connection, user_name)
            if user is None:
                raise NotFound(f"There is no user '{user_name}'.")
            await users.set_roles(connection, user.id, is_admin=is_admin, is_deactivated=is_deactivated)
            return await users.find(connection, user.id) or user

    async def change_password(self, caller: Caller, *, old: str, new: str) -> None:
        """Replace the caller's own password.

        Raises:
            Unauthenticated: the old password is wrong.
            InvalidInput: the new one won't do.
        """
        user_id = require_user(caller)
        _check_password(new)
        async with self.db.read() as connection:
            hashed = await users.password_hash(connection, user_id)
        if not await asyncio.to_thread(self._verify, hashed, old):
            raise Unauthenticated("The old password is wrong.", code="bad-credentials")
        replacement = await asyncio.to_thread(self.hasher.hash, new)
        async with self.db.begin() as connection:
            await users.set_password_hash(connection, user_id, replacement)

    async def ensure_first_admin(self, password: str | None) -> str | None:
        """Make the administrator `admin` if there is no user yet; the password if one was generated."""
        async with self.db.read() as connection:
            if await users.any_exist(connection):
                return None
        generated = None if password else secrets.token_urlsafe(12)
        try:
            await self._add("admin", password or generated or "", email=None, is_admin=True)
        except Conflict:  # another process was faster
            return None
        return generated

    async def _add(self, user_name: str, password: str, *, email: str | None, is_admin: bool) -> UserRow:
        if not _USER_NAME.fullmatch(user_name):
            raise InvalidInput(
                "A user name has 1 to 128 letters, digits and . _ @ + - and starts with a letter or digit.",
                code="invalid-user-name",
            )
        _check_password(password)
        hashed = await asyncio.to_thread(self.hasher.hash, password)
        user_id = UserId(new_id())
        try:
            async with self.db.begin() as connection:
                await users.add(
                    connection,
                    user_id=user_id,
                    user_name=user_name,
                    email=email,
                    hashed=hashed,
                    is_admin=is_admin,
                )
                added = await users.find(connection, user_id)
        except IntegrityError as error:
            raise Conflict(f"The user name '{user_name}' is taken.", code="user-name-taken") from error
        if added is None:
            raise NotFound("The user is gone.")
        return added

    def _verify(self, hashed: str, password: str) -> bool:
        try:
            return self.hasher.verify(hashed, password[:MAX_PASSWORD_CHARS])
        except VerificationError:
            return False

    def _token(self, user: UserRow) -> Token:
        expires_at = datetime.now(UTC) + self.token_ttl
        claims = {
            "sub": str(user.id),
            "aud": _AUDIENCE,
            "exp": expires_at,
            "epoch": user.token_epoch,
        }
        return Token(user.user_name, jwt.encode(claims, self.secret, ALGORITHM), expires_at)


def open_accounts(db: Database, *, secret: str, token_ttl: timedelta) -> AccountService:
    """The accounts over a database, with argon2id at the library's own cost."""
    hasher = PasswordHasher()
    return AccountService(db, secret, token_ttl, hasher, hasher.hash(secrets.token_hex(16)))


@lru_cache(maxsize=4096)
def _verified(token: str, secret: str) -> _Claims:
    """The claims of a token whose signature is ours; whether it has expired is for the caller to see.

    Raises:
        jwt.InvalidTokenError, ValueError, TypeError, AttributeError: it isn't ours, or makes no sense.
    """
    claims = jwt.decode(
        token,
        secret,
        algorithms=[ALGORITHM],
        audience=_AUDIENCE,
        options={"require": ["sub", "exp", "epoch"], "verify_exp": False},
    )
    return _Claims(UserId(UUID(claims["sub"])), int(claims["epoch"]), float(claims["exp"]))


def _rejected(reason: str) -> Caller:
    return Caller(user_id=None, user_name=None, rejected_credentials=reason)


def _check_password(password: str) -> None:
    if not MIN_PASSWORD_CHARS <= len(password) <= MAX_PASSWORD_CHARS:
        raise InvalidInput(
            f"A password has {MIN_PASSWORD_CHARS} to {MAX_PASSWORD_CHARS} characters.",
            code="invalid-password",
        )
