"""API keys: shown once, stored as a digest, with an expiry, optionally read-only."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from uuid import UUID

from aerotask.db.clock import DAY_S
from aerotask.db.engine import Database
from aerotask.domain.access import Caller, Credential
from aerotask.domain.audit import AuditAction
from aerotask.domain.errors import Conflict, NotFound, Unauthenticated
from aerotask.domain.ids import new_id
from aerotask.services.accounts.login import require_person
from aerotask.services.accounts.permissions import require_user
from aerotask.store.accounts import api_keys, audit, users
from aerotask.store.accounts.api_keys import ApiKeyRow

# Distinguishes keys from tokens, and lets secret scanners find leaked keys.
PREFIX = "atk_"
_RANDOM_BYTES = 32
MAX_KEYS = 100


@dataclass(frozen=True, slots=True)
class NewApiKey:
    """A new key, whose secret is not stored and can't be shown again."""

    row: ApiKeyRow
    key: str

    def __repr__(self) -> str:
        """Omits the key, which must not get into a log."""
        return f"NewApiKey({self.row.id}, …)"


@dataclass(frozen=True, slots=True)
class ApiKeyService:
    """Management of users' own keys, and authentication by them."""

    db: Database

    async def create(self, caller: Caller, *, name: str, read_only: bool, ttl_days: int) -> NewApiKey:
        """Creates a key that is valid for `ttl_days`.

        Raises:
            Forbidden: the caller authenticated with an API key.
            Conflict: the caller has too many keys.
        """
        user_id = require_person(caller)
        key = PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)
        async with self.db.begin() as connection:
            await users.lock(connection, user_id)
            if len(await api_keys.list_of(connection, user_id)) >= MAX_KEYS:
                raise Conflict(
                    f"You have {MAX_KEYS} keys; revoke those that you don't need.", code="too-many-keys"
                )
            row = await api_keys.add(
                connection,
                key_id=new_id(),
                user_id=user_id,
                name=name,
                digest=digest_of(key),
                read_only=read_only,
                ttl_s=ttl_days * DAY_S,
            )
            await audit.record(
                connection,
                caller,
                AuditAction.KEY_CREATED,
                f"{caller.display_name}/{row.id}",
                name=name,
                readOnly=read_only,
                days=ttl_days,
            )
        return NewApiKey(row, key)

    async def list_own(self, caller: Caller) -> list[ApiKeyRow]:
        """The caller's keys, including expired ones."""
        user_id = require_user(caller)
        async with self.db.read() as connection:
            return await api_keys.list_of(connection, user_id)

    async def revoke(self, caller: Caller, key_id: UUID) -> None:
        """Removes one of the caller's keys, which is invalid at once.

        Raises:
            NotFound: the caller has no such key.
        """
        user_id = require_user(caller)
        async with self.db.begin() as connection:
            name = await api_keys.remove(connection, user_id, key_id)
            if name is None:
                raise NotFound("You have no API key of this id.")
            target = f"{caller.display_name}/{key_id}"
            await audit.record(connection, caller, AuditAction.KEY_REVOKED, target, name=name)

    async def authenticate(self, key: str) -> Caller:
        """The caller who owns the key.

        Raises:
            Unauthenticated: the key is unknown or has expired.
        """
        async with self.db.read() as connection:
            owner = await api_keys.find_owner(connection, digest_of(key))
        if owner is None:
            raise Unauthenticated("The API key is not valid.", code="bad-credentials")
        if owner.expired:
            raise Unauthenticated("The API key has expired; create another.", code="bad-credentials")
        if owner.use_is_stale:
            async with self.db.begin() as connection:
                await api_keys.record_use(connection, owner.key_id)
        return Caller(
            user_id=owner.user_id,
            user_name=owner.user_name,
            is_admin=owner.is_admin,
            read_only=owner.read_only,
            credential=Credential.KEY,
            epoch=owner.token_epoch,
            key_id=owner.key_id,
        )


def digest_of(key: str) -> bytes:
    """The stored digest of a key: 256 random bits need no slow hash."""
    return hashlib.sha256(key.encode(errors="replace")).digest()
