"""Bearer tokens that Aerotask issues: JWTs with a pinned algorithm, revoked by raising the user's epoch."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TypeAlias
from uuid import UUID

import jwt

from aerotask.domain.access import ANONYMOUS, Caller, Credential
from aerotask.domain.errors import Unauthenticated
from aerotask.domain.ids import UserId
from aerotask.domain.settings import TokenLifetimes
from aerotask.store.accounts.users import UserRow

ALGORITHM = "HS256"
_AUDIENCE = "aerotask"
# Issued tokens have about 300 characters; longer ones are rejected undecoded.
MAX_CHARS = 2048
_REQUIRED = ["sub", "exp", "epoch", "since"]


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token and its expiry."""

    user_name: str
    token: str
    expires_at: datetime

    def __repr__(self) -> str:
        """Omits the token, which must not get into a log."""
        return f"Token({self.user_name!r}, …)"


@dataclass(frozen=True, slots=True)
class Claims:
    """The claims of a token with a valid signature."""

    user_id: UserId
    epoch: int
    expires_s: float
    since_s: float


@dataclass(frozen=True, slots=True)
class UnverifiedToken:
    """An access token whose signature is valid but whose user has not been checked yet; it may be revoked."""

    claims: Claims
    address: str | None

    def verify(self, user: UserRow | None) -> Caller:
        """The caller; anonymous, with the reason, if the user is removed, deactivated or signed out everywhere."""
        if user is None or user.is_deactivated or user.token_epoch != self.claims.epoch:
            reason = "The token has been revoked; sign in again."
            return replace(ANONYMOUS, rejected_credentials=reason, address=self.address)
        return Caller(
            user_id=user.id,
            user_name=user.user_name,
            is_admin=user.is_admin,
            credential=Credential.TOKEN,
            since_s=self.claims.since_s,
            epoch=user.token_epoch,
            address=self.address,
        )


UnverifiedPrincipal: TypeAlias = Caller | UnverifiedToken
"""A caller, or a token that becomes one when its user's row has been read."""


def user_id_of(principal: UnverifiedPrincipal) -> UserId | None:
    """The id of the user to load; None for anonymous callers."""
    return principal.claims.user_id if isinstance(principal, UnverifiedToken) else principal.user_id


def verify(principal: UnverifiedPrincipal, user: UserRow | None) -> Caller:
    """The caller, given the row of the principal's user."""
    return principal.verify(user) if isinstance(principal, UnverifiedToken) else principal


@dataclass(frozen=True, slots=True, repr=False)
class Tokens:
    """Issues tokens and checks their signatures."""

    secret: str
    lifetimes: TokenLifetimes

    def issue(self, user_id: UserId, user_name: str, *, epoch: int, since_s: float | None = None) -> Token:
        """A token for the user, of the session that began at `since_s` or of a new one.

        Raises:
            Unauthenticated: the session has expired.
        """
        now = datetime.now(UTC)
        began = now if since_s is None else datetime.fromtimestamp(since_s, UTC)
        ttl, session_ttl = self.lifetimes.token_ttl_s, self.lifetimes.session_ttl_s
        expires_at = min(now + timedelta(seconds=ttl), began + timedelta(seconds=session_ttl))
        if expires_at <= now:
            raise Unauthenticated("The session has expired; sign in again.", code="bad-credentials")
        claims = {
            "sub": str(user_id),
            "aud": _AUDIENCE,
            "exp": expires_at,
            "epoch": epoch,
            "since": began.timestamp(),
        }
        return Token(user_name, jwt.encode(claims, self.secret, ALGORITHM), expires_at)

    def read(self, token: str) -> Claims:
        """The claims of a token.

        Raises:
            Unauthenticated: the signature is invalid, or the token has expired.
        """
        claims = _decode(token, self.secret) if len(token) <= MAX_CHARS else None
        if claims is None:
            raise Unauthenticated("The token is not valid; sign in again.", code="bad-credentials")
        if claims.expires_s <= time.time():
            raise Unauthenticated("The token has expired; sign in again.", code="bad-credentials")
        return claims


@lru_cache(maxsize=4096)
def _decode(token: str, secret: str) -> Claims | None:
    """The claims of a token with a valid signature, even if it has expired; None for an invalid one."""
    try:
        claims = jwt.decode(
            token,
            secret,
            algorithms=[ALGORITHM],
            audience=_AUDIENCE,
            options={"require": _REQUIRED, "verify_exp": False},
        )
        expires_s, since_s = float(claims["exp"]), float(claims["since"])
        if not math.isfinite(expires_s + since_s):  # NaN compares as not expired
            return None
        return Claims(UserId(UUID(claims["sub"])), int(claims["epoch"]), expires_s, since_s)
    # PyJWT raises more than it documents for forged tokens.
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError, KeyError, OverflowError, RecursionError):
        return None
