"""Bearer tokens of our own: JWTs whose algorithm is pinned, void once the user's epoch has moved on."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from uuid import UUID

import jwt

from aerotask.domain.errors import Unauthenticated
from aerotask.domain.ids import UserId
from aerotask.domain.settings import TokenLifetimes

ALGORITHM = "HS256"
_AUDIENCE = "aerotask"
# Ours have 300. A longer one isn't even decoded.
MAX_CHARS = 2048
_REQUIRED = ["sub", "exp", "epoch", "since"]


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token and when it ends."""

    user_name: str
    token: str
    expires_at: datetime

    def __repr__(self) -> str:
        """Without the token, which must not get into a log."""
        return f"Token({self.user_name!r}, …)"


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token with a good signature says."""

    user_id: UserId
    epoch: int
    expires_s: float
    since_s: float


@dataclass(frozen=True, slots=True, repr=False)
class Tokens:
    """Gives out tokens and reads them."""

    secret: str
    lifetimes: TokenLifetimes

    def give(self, user_id: UserId, user_name: str, *, epoch: int, since_s: float | None = None) -> Token:
        """A token for the user; of the session that began at `since_s`, else of a new one.

        Raises:
            Unauthenticated: the session has gone on for too long.
        """
        now = datetime.now(UTC)
        began = now if since_s is None else datetime.fromtimestamp(since_s, UTC)
        ttl, session_ttl = self.lifetimes.token_ttl_s, self.lifetimes.session_ttl_s
        expires_at = min(now + timedelta(seconds=ttl), began + timedelta(seconds=session_ttl))
        if expires_at <= now:
            raise Unauthenticated("The session is over; sign in again.", code="bad-credentials")
        claims = {
            "sub": str(user_id),
            "aud": _AUDIENCE,
            "exp": expires_at,
            "epoch": epoch,
            "since": began.timestamp(),
        }
        return Token(user_name, jwt.encode(claims, self.secret, ALGORITHM), expires_at)

    def read(self, token: str) -> Claims:
        """What the token says.

        Raises:
            Unauthenticated: it isn't one of ours, or has expired.
        """
        claims = _verified(token, self.secret) if len(token) <= MAX_CHARS else None
        if claims is None:
            raise Unauthenticated("The token is not valid; sign in again.", code="bad-credentials")
        if claims.expires_s <= time.time():
            raise Unauthenticated("The token has expired; sign in again.", code="bad-credentials")
        return claims


@lru_cache(maxsize=4096)
def _verified(token: str, secret: str) -> Claims | None:
    """The claims of a token whose signature is ours, whether or not it has expired; None for any other."""
    try:
        claims = jwt.decode(
            token,
            secret,
            algorithms=[ALGORITHM],
            audience=_AUDIENCE,
            options={"require": _REQUIRED, "verify_exp": False},
        )
        expires_s, since_s = float(claims["exp"]), float(claims["since"])
        if not math.isfinite(expires_s + since_s):  # NaN is later than no time at all
            return None
        return Claims(UserId(UUID(claims["sub"])), int(claims["epoch"]), expires_s, since_s)
    # What a library says of a token that somebody made up is not bounded by its documentation.
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError, KeyError, OverflowError, RecursionError):
        return None
