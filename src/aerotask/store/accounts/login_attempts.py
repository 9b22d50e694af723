"""Queries that count failed sign-ins, and lookups of unknown users, in Postgres, across all API processes.

A bucket is an account or an address; of lookups, the caller. A sign-in is counted as failed before the password is checked, so that
concurrent attempts can't exceed the limit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Integer, case, delete, extract, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.db.clock import db_now, tx_now
from aerotask.db.models import LoginAttempts


@dataclass(frozen=True, slots=True)
class AttemptCount:
    """Failures of a bucket in its current window, and the time until the window ends."""

    bucket: str
    failures: int
    left_s: int


_LEFT_S = extract("epoch", LoginAttempts.window_ends_at - db_now())


async def find_active(connection: AsyncConnection, buckets: Sequence[str]) -> list[AttemptCount]:
    """The buckets whose window has not ended."""
    query = select(LoginAttempts.bucket, LoginAttempts.failures, _LEFT_S).where(
        LoginAttempts.bucket.in_(buckets), LoginAttempts.window_ends_at > db_now()
    )
    return [_attempts(*row) for row in await connection.execute(query)]


async def increment(connection: AsyncConnection, bucket: str, *, window_s: int) -> AttemptCount:
    """Counts an attempt; the first one after a window has ended begins another."""
    window_ended = LoginAttempts.window_ends_at <= db_now()
    statement = (
        insert(LoginAttempts)
        .values(bucket=bucket, failures=1, window_ends_at=db_now(plus_s=window_s))
        .on_conflict_do_update(
            index_elements=[LoginAttempts.bucket],
            set_={
                "failures": case((window_ended, 1), else_=LoginAttempts.failures + 1),
                "window_ends_at": case(
                    (window_ended, db_now(plus_s=window_s)), else_=LoginAttempts.window_ends_at
                ),
            },
        )
        .returning(LoginAttempts.bucket, LoginAttempts.failures, _LEFT_S)
    )
    return _attempts(*(await connection.execute(statement)).one())


async def record_success(connection: AsyncConnection, *, account: str, address: str) -> None:
    """Removes the account's failures, and this one attempt from the address."""
    # The address first, as when counting: otherwise two transactions could deadlock.
    await connection.execute(
        update(LoginAttempts)
        .where(LoginAttempts.bucket == address)
        .values(failures=func.greatest(LoginAttempts.failures - 1, 0, type_=Integer))
    )
    await connection.execute(delete(LoginAttempts).where(LoginAttempts.bucket == account))


async def withdraw(connection: AsyncConnection, *, account: str, address: str) -> None:
    """Removes an attempt that was counted but not carried out."""
    for bucket in (address, account):  # the address first: see `record_success`
        await connection.execute(
            update(LoginAttempts)
            .where(LoginAttempts.bucket == bucket)
            .values(failures=func.greatest(LoginAttempts.failures - 1, 0, type_=Integer))
        )


async def remove_expired(connection: AsyncConnection, *, max_count: int) -> int:
    """Removes buckets whose window has ended; returns their number."""
    expired = select(LoginAttempts.bucket).where(LoginAttempts.window_ends_at < tx_now()).limit(max_count)
    # The condition is repeated for the row itself: another window may begin between the read and the lock.
    statement = delete(LoginAttempts).where(
        LoginAttempts.bucket.in_(expired), LoginAttempts.window_ends_at < tx_now()
    )
    return (await connection.execute(statement)).rowcount


def _attempts(bucket: str, failures: int, left_s: float) -> AttemptCount:
    return AttemptCount(bucket, failures, max(1, math.ceil(left_s)))
