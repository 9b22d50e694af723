"""A submit that is sent again with the same key gets the first answer again, and makes no second task."""

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
    """A caller's key, and a digest of what it came with."""

    caller: str
    key: str
    fingerprint: bytes

    async def first_answer(self, connection: AsyncConnection) -> dict[str, Any] | None:
        """What was answered to the first request with the key; None if this is the first.

        Raises:
            KeyReused: the first request was another one.
        """
        first = await idempotency.find(connection, caller=self.caller, key=self.key)
        if first is None:
            return None
        if first.fingerprint != self.fingerprint:
            raise KeyReused(
                "This Idempotency-Key came with another request in the last 24 hours; "
                "use a new key for a new request."
            )
        return first.answer

    async def hold(self, connection: AsyncConnection) -> None:
        """Make others with the same key wait until the transaction ends."""
        digest = hashlib.sha256(f"{self.caller}\0{self.key}".encode()).digest()
        await locks.take(connection, LockSpace.IDEMPOTENCY, locks.key_of(digest))

    async def keep(self, connection: AsyncConnection, answer: Mapping[str, Any]) -> None:
        """Keep the answer for whoever asks again."""
        await idempotency.keep(
            connection, caller=self.caller, key=self.key, fingerprint=self.fingerprint, answer=answer
        )


def idempotent(caller: Caller, key: str, request: Mapping[str, Any]) -> IdempotentRequest:
    """A request with a key; anonymous callers count as one."""
    fingerprint = hashlib.sha256(orjson.dumps(request, option=orjson.OPT_SORT_KEYS)).digest()
    return IdempotentRequest(str(caller.user_id or "anonymous"), key, fingerprint)
