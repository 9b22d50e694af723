"""API keys: shown once, stored as a digest, with an expiry, and for reading alone if so wanted."""

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

# Tells a key from a token, and lets scanners find one in a repository.
PREFIX = "atk_"
_RANDOM_BYTES = 32
MAX_KEYS = 100


@dataclass(frozen=True, slots=True)
class NewApiKey:
    """A key at the only moment at which it is known."""

    row: ApiKeyRow
    key: str

    def __repr__(self) -> str:
        """Without the key, which must not get into a log."""
        return f"NewApiKey({self.row.id}, …)"


@dataclass(frozen=True, slots=True)
class ApiKeyService:
    """What users do with their own keys."""

    db: Database

    async def create(self, caller: Caller, *, name: str, read_only: bool, ttl_days: int) -> NewApiKey:
        """Make a key that holds for so many days.

        Raises:
            Forbidden: it is a key that asks.
            Conflict: the caller has very many keys.
        """
        user_id = require_person(caller)
        key = PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)
        async with self.db.begin() as connection:
            await users.hold(connection, user_id)
            if len(await api_keys.list_of(connection, user_id)) >= MAX_KEYS:
                raise Conflict(
                    f"You have {MAX_KEYS} keys; revoke those that are of no use.", code="too-many-keys"
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
        """The caller's keys, expired ones too."""
        user_id = require_user(caller)
        async with self.db.read() as connection:
            return await api_keys.list_of(connection, user_id)

    async def revoke(self, caller: Caller, key_id: UUID) -> None:
        """Remove a key of the caller's; it doesn't hold from now on.

        Raises:
            NotFound: the caller has no such key.
        """
        user_id = require_user(caller)
        async with self.db.begin() as connection:
            name = await api_keys.remove(connection, user_id, key_id)
            if name is None:
                raise NotFound("You have no such key.")
            target = f"{caller.display_name}/{key_id}"
            await audit.record(connection, caller, AuditAction.KEY_REVOKED, target, name=name)

    async def holder(self, key: str) -> Caller:
        """Whom the key stands for.

        Raises:
            Unauthenticated: it doesn't hold.
        """
        async with self.db.read() as connection:
            held = await api_keys.find_holder(connection, digest_of(key))
        if held is None:
            raise Unauthenticated("The API key is not valid.", code="bad-credentials")
        if held.expired:
            raise Unauthenticated("The API key has expired; make another.", code="bad-credentials")
        if held.use_unnoted:
            async with self.db.begin() as connection:
                await api_keys.note_use(connection, held.key_id)
        return Caller(
            user_id=held.user_id,
            user_name=held.user_name,
            is_admin=held.is_admin,
            read_only=held.read_only,
            credential=Credential.KEY,
            epoch=held.token_epoch,
            key_id=held.key_id,
        )


def digest_of(key: str) -> bytes:
    """What is stored of a key: 256 random bits need no slow hash."""
    return hashlib.sha256(key.encode(errors="replace")).digest()
