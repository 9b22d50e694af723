"""Signing in with a password, and ending sessions."""

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

# What the log calls a name that nobody has: it may be a password in the wrong field.
NOBODY = "(no such user)"


@dataclass(frozen=True, slots=True)
class LoginService:
    """Turns passwords into tokens."""

    db: Database
    tokens: Tokens
    passwords: Passwords
    limits: LoginThrottle

    async def sign_in(self, caller: Caller, user_name: str, password: str) -> Token:
        """A token for the user of that name and password; the caller says where they call from.

        Raises:
            Unauthenticated: name or password are wrong, or the user is deactivated; it doesn't say which.
            LimitReached: the account or the address has failed too often.
        """
        async with self.limits.trying(caller, user_name) as attempt:
            # In one query, whether or not there is such a user: how many there are can be measured.
            async with self.db.read() as connection:
                found = await users.find_to_sign_in(connection, user_name)
            user, hashed = found or (None, None)
            fits = await self.passwords.fits(hashed, password)
            if user is None or hashed is None or not fits or user.is_deactivated:
                await self._note_failure(caller, user.user_name if user else NOBODY, attempt)
                raise Unauthenticated("The user name or the password is wrong.", code="bad-credentials")
            token = self.tokens.give(user.id, user.user_name, epoch=user.token_epoch)
            renewed = await self.passwords.rehash(hashed, password)
            signed_in = Caller(user.id, user.user_name, address=caller.address)
            async with self.db.begin() as connection:
                await self.limits.forgive(connection, attempt)
                await audit.record(connection, signed_in, AuditAction.SIGNED_IN, user.user_name)
                if renewed is not None:
                    await users.renew_password_hash(connection, user.id, renewed, instead_of=hashed)
        return token

    async def refresh(self, caller: Caller) -> Token:
        """A fresh token for the caller's own that still holds.

        Raises:
            Forbidden: it is an API key, or a token of the external provider, that they have.
        """
        user_id = require_session(caller)
        async with self.db.read() as connection:
            user = await users.find(connection, user_id)
        if user is None:
            raise _gone()
        return self.tokens.give(user.id, user.user_name, epoch=user.token_epoch, since_s=caller.since_s)

    async def sign_out_everywhere(self, caller: Caller) -> None:
        """Void every token of the caller's; their API keys stay."""
        user_id = require_person(caller)
        async with self.db.begin() as connection:
            await users.end_sessions(connection, user_id)
            await audit.record(connection, caller, AuditAction.SIGNED_OUT, caller.display_name)

    async def change_password(self, caller: Caller, *, old: str, new: str) -> Token:
        """Replace the caller's own password; every session ends but the one of the token that comes back.

        Raises:
            Unauthenticated: the old password is wrong.
            InvalidInput: the new one won't do.
            LimitReached: the old password was wrong too often.
        """
        user_id = require_session(caller)
        check_password(new)
        async with self.limits.trying(caller, caller.display_name) as attempt:
            async with self.db.read() as connection:
                hashed = await users.password_hash(connection, user_id)
            if not await self.passwords.fits(hashed, old):
                await self._note_failure(caller, caller.display_name, attempt)
                raise _wrong_old()
            replacement = await self.passwords.hash(new)
            async with self.db.begin() as connection:
                await self.limits.forgive(connection, attempt)
                epoch = await users.change_password_hash(connection, user_id, replacement, instead_of=hashed)
                if epoch is None:  # somebody else was faster
                    raise _wrong_old()
                await audit.record(connection, caller, AuditAction.PASSWORD_CHANGED, caller.display_name)
        return self.tokens.give(user_id, caller.display_name, epoch=epoch)

    async def _note_failure(self, by: Caller, user_name: str, attempt: LoginAttempt) -> None:
        async with self.db.begin() as connection:
            await audit.record(connection, by, AuditAction.SIGN_IN_FAILED, user_name)
            for bucket in attempt.filled:
                await audit.record(connection, by, AuditAction.SIGN_INS_LIMITED, bucket)


def require_person(caller: Caller) -> UserId:
    """The id of a caller who is no program: keys can't make themselves more than they are.

    Raises:
        Unauthenticated: nobody is signed in.
        Forbidden: it is an API key that they have.
    """
    user_id = require_user(caller)
    if caller.credential is Credential.KEY:
        raise Forbidden("An API key can't do this; sign in with a password.", code="not-by-key")
    return user_id


def require_session(caller: Caller) -> UserId:
    """The id of a caller who has signed in here, with a password.

    Raises:
        Unauthenticated: nobody is signed in.
        Forbidden: it is something else than a token of ours that they have.
    """
    user_id = require_person(caller)
    if caller.credential is not Credential.TOKEN:
        raise Forbidden("Your provider gives you tokens and passwords, not Aerotask.", code="not-by-issuer")
    return user_id


def _wrong_old() -> Unauthenticated:
    return Unauthenticated("The old password is wrong.", code="bad-credentials")


def _gone() -> Unauthenticated:
    return Unauthenticated("The user is gone.", code="bad-credentials")
