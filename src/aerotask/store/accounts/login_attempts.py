"""Queries that count failing sign-ins, in Postgres, so that every API process counts together.

A bucket is an account or an address. Whoever tries counts as failed first and is let off when they succeed:
many who try at once can't get past the limit together.
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
    """How often a bucket has failed in its window, this time included, and how long that lasts."""

    bucket: str
    failures: int
    left_s: int


_LEFT_S = extract("epoch", LoginAttempts.window_ends_at - db_now())


async def standing(connection: AsyncConnection, buckets: Sequence[str]) -> list[AttemptCount]:
    """The buckets that have failed in a window that goes on."""
    query = select(LoginAttempts.bucket, LoginAttempts.failures, _LEFT_S).where(
        LoginAttempts.bucket.in_(buckets), LoginAttempts.window_ends_at > db_now()
    )
    return [_attempts(*row) for row in await connection.execute(query)]


async def count_one(connection: AsyncConnection, bucket: str, *, window_s: int) -> AttemptCount:
    """Count one more try; the first one after a window begins another."""
    over = LoginAttempts.window_ends_at <= db_now()
    statement = (
        insert(LoginAttempts)
        .values(bucket=bucket, failures=1, window_ends_at=db_now(plus_s=window_s))
        .on_conflict_do_update(
            index_elements=[LoginAttempts.bucket],
            set_={
                "failures": case((over, 1), else_=LoginAttempts.failures + 1),
                "window_ends_at": case((over, db_now(plus_s=window_s)), else_=LoginAttempts.window_ends_at),
            },
        )
        .returning(LoginAttempts.bucket, LoginAttempts.failures, _LEFT_S)
    )
    return _attempts(*(await connection.execute(statement)).one())


async def forgive(connection: AsyncConnection, *, account: str, address: str) -> None:
    """Forget the account's failures, since its owner is back; and this one try of the address."""
    # The address first, as when they are counted: two that wait for each other's rows would be a deadlock.
    await connection.execute(
        update(LoginAttempts)
        .where(LoginAttempts.bucket == address)
        .values(failures=func.greatest(LoginAttempts.failures - 1, 0, type_=Integer))
    )
    await connection.execute(delete(LoginAttempts).where(LoginAttempts.bucket == account))


async def withdraw(connection: AsyncConnection, *, account: str, address: str) -> None:
    """Take back one try that was counted and then not made."""
    for bucket in (address, account):  # the address first, as ever
        await connection.execute(
            update(LoginAttempts)
            .where(LoginAttempts.bucket == bucket)
            .values(failures=func.greatest(LoginAttempts.failures - 1, 0, type_=Integer))
        )


async def remove_over(connection: AsyncConnection, *, at_most: int) -> int:
    """Remove buckets whose window is over; how many."""
    over = select(LoginAttempts.bucket).where(LoginAttempts.window_ends_at < tx_now()).limit(at_most)
    # Said of the row itself too: somebody may begin another window between the look and the lock.
    gone = delete(LoginAttempts).where(
        LoginAttempts.bucket.in_(over), LoginAttempts.window_ends_at < tx_now()
    )
    return (await connection.execute(gone)).rowcount


def _attempts(bucket: str, failures: int, left_s: float) -> AttemptCount:
    return AttemptCount(bucket, failures, max(1, math.ceil(left_s)))
