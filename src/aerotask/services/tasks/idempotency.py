"""Idempotency keys: a repeated submit with the same key gets the first response and creates no second task."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.db import locks
from aerotask.db.locks import LockSpace
from aerotask.domain.access import Caller
from aerotask.domain.errors import KeyReused
from aerotask.store.tasks import idempotency


@dataclass(frozen=True, slots=True)
class IdempotentRequest:
    """A caller's idempotency key, and a digest of its request."""

    caller: str
    key: str
    fingerprint: bytes

    async def first_response(self, connection: AsyncConnection) -> dict[str, Any] | None:
        """The response to the first request with the key; None if this is the first.

        Raises:
            KeyReused: the first request was a different one.
        """
        first = await idempotency.find(connection, caller=self.caller, key=self.key)
        if first is None:
            return None
        if first.fingerprint != self.fingerprint:
            raise KeyReused(
                "This Idempotency-Key was used for a different request in the last 24 hours; "
                "use a new key for a new request."
            )
        return first.response

    async def lock(self, connection: AsyncConnection) -> None:
        """Make requests with the same key wait until this transaction ends."""
        digest = hashlib.sha256(f"{self.caller}\0{self.key}".encode()).digest()
        await locks.take(connection, LockSpace.IDEMPOTENCY, locks.key_of(digest))

    async def store(self, connection: AsyncConnection, response: Mapping[str, Any]) -> None:
        """Store the response for repeated requests."""
        await idempotency.store(
            connection, caller=self.caller, key=self.key, fingerprint=self.fingerprint, response=response
        )


def idempotent(caller: Caller, key: str, request: Mapping[str, Any]) -> IdempotentRequest:
    """A request with a key; all anonymous callers share their keys."""
    fingerprint = hashlib.sha256(orjson.dumps(request, option=orjson.OPT_SORT_KEYS)).digest()
    return IdempotentRequest(str(caller.user_id or "anonymous"), key, fingerprint)
