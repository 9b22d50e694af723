"""Tokens of an external OpenID Connect provider, and whom they stand for here."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import jwt
from sqlalchemy.exc import IntegrityError

from aerotask.db.engine import Database
from aerotask.domain.access import Caller, Credential
from aerotask.domain.audit import AuditAction
from aerotask.domain.errors import Unauthenticated
from aerotask.domain.ids import UserId, new_id
from aerotask.domain.settings import OidcSettings
from aerotask.services.accounts.jwks import ALGORITHMS, JwksCache
from aerotask.services.accounts.users import USER_NAME
from aerotask.store.accounts import audit, users
from aerotask.store.accounts.users import UserRow

# The provider's clock may differ from ours by so much.
LEEWAY_S = 30
MAX_CHARS = 16 * 1024
MAX_SUBJECT_CHARS = 255
# Of so many tokens this process knows that they are in the audit log.
MAX_NOTED = 10_000
_REQUIRED = ["iss", "sub", "aud", "exp"]


@dataclass(frozen=True, slots=True)
class OidcService:
    """Accepts one issuer's tokens that are meant for us."""

    db: Database
    settings: OidcSettings
    issuer: str
    keys: JwksCache
    _noted: set[bytes] = field(default_factory=set)

    async def caller(self, token: str, *, address: str | None = None) -> Caller:
        """Whom the token stands for.

        Raises:
            Unauthenticated: it doesn't hold, or stands for nobody here.
            Unavailable: the issuer's keys can't be had.
        """
        claims = await self._verified(token)
        subject = claims["sub"]
        # Nothing unprintable: NUL and halves of surrogate pairs are no text to Postgres.
        if not isinstance(subject, str) or not 0 < len(subject) <= MAX_SUBJECT_CHARS:
            raise _invalid()
        if not subject.isprintable():
            raise _invalid()
        async with self.db.read() as connection:
            user = await users.find_by_subject(connection, self.issuer, subject)
        if user is None and self.settings.provision:
            user = await self._provisioned(subject, claims, address)
        if user is None or user.is_deactivated:
            raise Unauthenticated("The provider's token stands for nobody here.", code="bad-credentials")
        caller = Caller(
            user_id=user.id,
            user_name=user.user_name,
            is_admin=user.is_admin,
            credential=Credential.ISSUER,
            epoch=user.token_epoch,
            address=address,
        )
        await self._note(token, caller)
        return caller

    async def _note(self, token: str, caller: Caller) -> None:
        """Have the log say that somebody came with a token that this process has not seen yet."""
        digest = sha256(token.encode()).digest()
        if digest in self._noted:
            return
        async with self.db.begin() as connection:
            await audit.record(
                connection, caller, AuditAction.SIGNED_IN, caller.display_name, provider=self.issuer
            )
        if len(self._noted) >= MAX_NOTED:
            self._noted.clear()
        self._noted.add(digest)

    async def _verified(self, token: str) -> dict[str, Any]:
        if len(token) > MAX_CHARS:
            raise _invalid()
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError, RecursionError) as error:
            raise _invalid() from error
        key_id, algorithm = header.get("kid"), header.get("alg")
        # Whatever JSON holds can stand here, also what has no hash.
        if not isinstance(key_id, str) or not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
            raise _invalid()
        key = await self.keys.find(key_id)
        # By the key, not by the token: whoever forges one must not choose how it is checked.
        if key is None or key.algorithm_name != algorithm:
            raise _invalid()
        try:
            return dict(
                jwt.decode(
                    token,
                    key,
                    algorithms=[key.algorithm_name],
                    audience=self.settings.audience,
                    issuer=self.issuer,
                    leeway=LEEWAY_S,
                    options={"require": _REQUIRED},
                )
            )
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise _invalid() from error

    async def _provisioned(self, subject: str, claims: dict[str, Any], address: str | None) -> UserRow | None:
        """A new user for the subject; never one that is there already by the same name."""
        for user_name in self._names(subject, claims):
            user_id = UserId(new_id())
            try:
                async with self.db.begin() as connection:
                    await users.add(
                        connection,
                        user_id=user_id,
                        user_name=user_name,
                        email=None,
                        hashed="",
                        is_admin=False,
                        issuer=self.issuer,
                        subject=subject,
                    )
                    new = Caller(user_id, user_name, credential=Credential.ISSUER, address=address)
                    await audit.record(
                        connection, new, AuditAction.USER_PROVISIONED, user_name, issuer=self.issuer
                    )
                    return await users.find(connection, user_id)
            except IntegrityError:
                async with self.db.read() as connection:  # another request of theirs may have been faster
                    known = await users.find_by_subject(connection, self.issuer, subject)
                if known is not None:
                    return known
        return None

    def _names(self, subject: str, claims: dict[str, Any]) -> list[str]:
        wished = claims.get("preferred_username")
        plain = [wished] if isinstance(wished, str) and USER_NAME.fullmatch(wished) else []
        digest = sha256(f"{self.issuer}\n{subject}".encode()).hexdigest()
        return [*plain, f"oidc-{digest[:16]}"]


def unverified_issuer(token: str) -> str | None:
    """The issuer that a token claims to be from, for choosing who checks it; None if it claims none."""
    if len(token) > MAX_CHARS:
        return None
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError, RecursionError):
        return None
    issuer = claims.get("iss")
    return issuer if isinstance(issuer, str) else None


def _invalid() -> Unauthenticated:
    return Unauthenticated("The provider's token is not valid; sign in there again.", code="bad-credentials")
