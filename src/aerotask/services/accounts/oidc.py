"""OpenID Connect: authentication by tokens of an external provider."""

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

# Allowed difference between the provider's clock and ours.
LEEWAY_S = 30
MAX_CHARS = 16 * 1024
MAX_SUBJECT_CHARS = 255
# Number of tokens whose sign-in this process remembers as logged.
MAX_LOGGED = 10_000
_REQUIRED = ["iss", "sub", "aud", "exp"]


@dataclass(frozen=True, slots=True)
class OidcService:
    """Accepts one issuer's tokens for our audience."""

    db: Database
    settings: OidcSettings
    issuer: str
    keys: JwksCache
    _logged: set[bytes] = field(default_factory=set)

    async def authenticate(self, token: str, *, address: str | None = None) -> Caller:
        """The caller whose subject the token names.

        Raises:
            Unauthenticated: the token is invalid, or its subject has no active user.
            Unavailable: the issuer's keys can't be fetched.
        """
        claims = await self._verified(token)
        subject = claims["sub"]
        # Postgres stores neither NUL nor lone surrogates.
        if not isinstance(subject, str) or not 0 < len(subject) <= MAX_SUBJECT_CHARS:
            raise _invalid()
        if not subject.isprintable():
            raise _invalid()
        async with self.db.read() as connection:
            user = await users.find_by_subject(connection, self.issuer, subject)
        if user is None and self.settings.provision:
            user = await self._provision(subject, claims, address)
        if user is None or user.is_deactivated:
            raise Unauthenticated(
                "The token's subject has no active user here; ask an administrator to add you.",
                code="bad-credentials",
            )
        caller = Caller(
            user_id=user.id,
            user_name=user.user_name,
            is_admin=user.is_admin,
            credential=Credential.ISSUER,
            epoch=user.token_epoch,
            address=address,
        )
        await self._log_sign_in(token, caller)
        return caller

    async def _log_sign_in(self, token: str, caller: Caller) -> None:
        """Records a sign-in in the audit log for a token that this process sees for the first time."""
        digest = sha256(token.encode()).digest()
        if digest in self._logged:
            return
        async with self.db.begin() as connection:
            await audit.record(
                connection, caller, AuditAction.SIGNED_IN, caller.display_name, provider=self.issuer
            )
        if len(self._logged) >= MAX_LOGGED:
            self._logged.clear()
        self._logged.add(digest)

    async def _verified(self, token: str) -> dict[str, Any]:
        if len(token) > MAX_CHARS:
            raise _invalid()
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError, RecursionError) as error:
            raise _invalid() from error
        key_id, algorithm = header.get("kid"), header.get("alg")
        # A header value may be any JSON type, even an unhashable one.
        if not isinstance(key_id, str) or not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
            raise _invalid()
        key = await self.keys.find(key_id)
        # The key decides the algorithm, not the token: a forger must not choose how it is checked.
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

    async def _provision(self, subject: str, claims: dict[str, Any], address: str | None) -> UserRow | None:
        """A new user for the subject; an existing user of the same name is never taken over."""
        for user_name in self._candidate_names(subject, claims):
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
                async with self.db.read() as connection:  # a concurrent request may have created the user
                    existing = await users.find_by_subject(connection, self.issuer, subject)
                if existing is not None:
                    return existing
        return None

    def _candidate_names(self, subject: str, claims: dict[str, Any]) -> list[str]:
        preferred = claims.get("preferred_username")
        valid = [preferred] if isinstance(preferred, str) and USER_NAME.fullmatch(preferred) else []
        digest = sha256(f"{self.issuer}\n{subject}".encode()).hexdigest()
        return [*valid, f"oidc-{digest[:16]}"]


def unverified_issuer(token: str) -> str | None:
    """The `iss` claim of a token, unverified, to choose the verifier; None if there is none."""
    if len(token) > MAX_CHARS:
        return None
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError, RecursionError):
        return None
    issuer = claims.get("iss")
    return issuer if isinstance(issuer, str) else None


def _invalid() -> Unauthenticated:
    return Unauthenticated(
        "The provider's token is not valid; sign in with the provider again.", code="bad-credentials"
    )
