"""Login with a password, and the end of sessions."""

from __future__ import annotations

from dataclasses import dataclass

from aerotask.db.engine import Database
from aerotask.domain.access import Caller, Credential
from aerotask.domain.audit import AuditAction
from aerotask.domain.errors import Forbidden, Unauthenticated
from aerotask.domain.ids import UserId
from aerotask.services.accounts.login_throttle import LoginAttempt, LoginThrottle
from aerotask.services.accounts.passwords import Passwords, check_password
from aerotask.services.accounts.permissions import require_user
from aerotask.services.accounts.tokens import Token, Tokens
from aerotask.store.accounts import audit, users

# Logged instead of an unknown user name: it may be a password typed into the wrong field.
UNKNOWN_USER = "(no such user)"


@dataclass(frozen=True, slots=True)
class LoginService:
    """Issues tokens for passwords."""

    db: Database
    tokens: Tokens
    passwords: Passwords
    throttle: LoginThrottle

    async def sign_in(self, caller: Caller, user_name: str, password: str) -> Token:
        """A token for the user of that name and password; the caller's address is throttled.

        Raises:
            Unauthenticated: the name or the password is wrong, or the user is deactivated; the error doesn't tell which.
            LimitReached: the account or the address has too many failed attempts.
        """
        async with self.throttle.attempt(caller, user_name) as attempt:
            # One query whether or not the user exists: the number of queries would show in the response time.
            async with self.db.read() as connection:
                credentials = await users.find_with_password_hash(connection, user_name)
            user, hashed = credentials or (None, None)
            matches = await self.passwords.verify(hashed, password)
            if user is None or hashed is None or not matches or user.is_deactivated:
                await self._record_failure(caller, user.user_name if user else UNKNOWN_USER, attempt)
                raise Unauthenticated("The user name or the password is wrong.", code="bad-credentials")
            token = self.tokens.issue(user.id, user.user_name, epoch=user.token_epoch)
            rehashed = await self.passwords.rehash(hashed, password)
            signed_in = Caller(user.id, user.user_name, address=caller.address)
            async with self.db.begin() as connection:
                await self.throttle.record_success(connection, attempt)
                await audit.record(connection, signed_in, AuditAction.SIGNED_IN, user.user_name)
                if rehashed is not None:
                    await users.renew_password_hash(connection, user.id, rehashed, instead_of=hashed)
        return token

    async def refresh(self, caller: Caller) -> Token:
        """A new token in exchange for a valid one.

        Raises:
            Forbidden: the caller authenticated with an API key or a token of the external provider.
        """
        user_id = require_session(caller)
        async with self.db.read() as connection:
            user = await users.find(connection, user_id)
        if user is None:
            raise _user_removed()
        return self.tokens.issue(user.id, user.user_name, epoch=user.token_epoch, since_s=caller.since_s)

    async def sign_out_everywhere(self, caller: Caller) -> None:
        """Revokes every token of the caller; API keys stay valid."""
        user_id = require_person(caller)
        async with self.db.begin() as connection:
            await users.end_sessions(connection, user_id)
            await audit.record(connection, caller, AuditAction.SIGNED_OUT, caller.display_name)

    async def change_password(self, caller: Caller, *, old: str, new: str) -> Token:
        """Replaces the caller's password and ends all their sessions; the returned token begins a new one.

        Raises:
            Unauthenticated: the old password is wrong.
            InvalidInput: the new password is too short or too long.
            LimitReached: the old password was wrong too many times.
        """
        user_id = require_session(caller)
        check_password(new)
        async with self.throttle.attempt(caller, caller.display_name) as attempt:
            async with self.db.read() as connection:
                hashed = await users.password_hash(connection, user_id)
            if not await self.passwords.verify(hashed, old):
                await self._record_failure(caller, caller.display_name, attempt)
                raise _wrong_old_password()
            replacement = await self.passwords.hash(new)
            async with self.db.begin() as connection:
                await self.throttle.record_success(connection, attempt)
                epoch = await users.change_password_hash(connection, user_id, replacement, instead_of=hashed)
                if epoch is None:  # changed concurrently
                    raise _wrong_old_password()
                await audit.record(connection, caller, AuditAction.PASSWORD_CHANGED, caller.display_name)
        return self.tokens.issue(user_id, caller.display_name, epoch=epoch)

    async def _record_failure(self, caller: Caller, user_name: str, attempt: LoginAttempt) -> None:
        async with self.db.begin() as connection:
            await audit.record(connection, caller, AuditAction.SIGN_IN_FAILED, user_name)
            for bucket in attempt.exhausted:
                await audit.record(connection, caller, AuditAction.SIGN_INS_LIMITED, bucket)


def require_person(caller: Caller) -> UserId:
    """The id of a caller who didn't use an API key: a key must not extend its own rights.

    Raises:
        Unauthenticated: the caller is anonymous.
        Forbidden: the caller authenticated with an API key.
    """
    user_id = require_user(caller)
    if caller.credential is Credential.KEY:
        raise Forbidden("API keys can't do this; sign in with a password.", code="not-by-key")
    return user_id


def require_session(caller: Caller) -> UserId:
    """The id of a caller who has signed in with a password.

    Raises:
        Unauthenticated: the caller is anonymous.
        Forbidden: the caller authenticated with something other than an Aerotask token.
    """
    user_id = require_person(caller)
    if caller.credential is not Credential.TOKEN:
        raise Forbidden(
            "Your tokens and password come from your sign-in provider, not from Aerotask.",
            code="not-by-issuer",
        )
    return user_id


def _wrong_old_password() -> Unauthenticated:
    return Unauthenticated("The old password is wrong.", code="bad-credentials")


def _user_removed() -> Unauthenticated:
    return Unauthenticated("The user has been removed.", code="bad-credentials")
