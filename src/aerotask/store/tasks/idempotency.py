"""Stored responses to submits with an `Idempotency-Key`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import bindparam, select
from sqlalchemy.dialects.postgresql import INTERVAL, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.db.clock import db_now
from aerotask.db.models import IdempotencyKey

RETENTION = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """A digest of the request that the key was used for, and its response."""

    fingerprint: bytes
    response: dict[str, Any]


_FIND = select(IdempotencyKey.fingerprint, IdempotencyKey.answer).where(
    IdempotencyKey.caller == bindparam("caller"),
    IdempotencyKey.key == bindparam("key"),
    IdempotencyKey.created_at > db_now() - bindparam("retention", type_=INTERVAL),
)


async def find(connection: AsyncConnection, *, caller: str, key: str) -> StoredResponse | None:
    """The response to the caller's first submit with the key in the last 24 hours."""
    params = {"caller": caller, "key": key, "retention": RETENTION}
    row = (await connection.execute(_FIND, params)).one_or_none()
    return None if row is None else StoredResponse(*row)


async def store(
    connection: AsyncConnection, *, caller: str, key: str, fingerprint: bytes, response: Mapping[str, Any]
) -> None:
    """Store a response; an expired one is replaced."""
    fresh = {"fingerprint": fingerprint, "answer": dict(response), "created_at": db_now()}
    await connection.execute(
        insert(IdempotencyKey)
        .values(caller=caller, key=key, **fresh)
        .on_conflict_do_update(index_elements=[IdempotencyKey.caller, IdempotencyKey.key], set_=fresh)
    )
