"""Queries for the first answers to submits that came with an `Idempotency-Key`."""

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

KEPT = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """What the key was used for, as a digest, and what was answered."""

    fingerprint: bytes
    answer: dict[str, Any]


_FIND = select(IdempotencyKey.fingerprint, IdempotencyKey.answer).where(
    IdempotencyKey.caller == bindparam("caller"),
    IdempotencyKey.key == bindparam("key"),
    IdempotencyKey.created_at > db_now() - bindparam("kept", type_=INTERVAL),
)


async def find(connection: AsyncConnection, *, caller: str, key: str) -> StoredResponse | None:
    """The answer to the caller's first submit with the key in the last 24 hours."""
    named = {"caller": caller, "key": key, "kept": KEPT}
    row = (await connection.execute(_FIND, named)).one_or_none()
    return None if row is None else StoredResponse(*row)


async def keep(
    connection: AsyncConnection, *, caller: str, key: str, fingerprint: bytes, answer: Mapping[str, Any]
) -> None:
    """Keep an answer; one that is older than 24 hours gives way."""
    fresh = {"fingerprint": fingerprint, "answer": dict(answer), "created_at": db_now()}
    await connection.execute(
        insert(IdempotencyKey)
        .values(caller=caller, key=key, **fresh)
        .on_conflict_do_update(index_elements=[IdempotencyKey.caller, IdempotencyKey.key], set_=fresh)
    )
