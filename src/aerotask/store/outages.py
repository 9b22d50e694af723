"""What it looks like when Postgres is away for a moment, and how to outlast it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import asyncpg
import structlog
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

FIRST_DELAY_S = 0.1
LONGEST_DELAY_S = 2.0
# SQLSTATE classes (PostgreSQL documentation, appendix A): connection exception, transaction rollback,
# insufficient resources, operator intervention (which a shutdown is).
_PASSING_CLASSES = ("08", "40", "53", "57")

T = TypeVar("T")
_log = structlog.get_logger(__name__)


def is_outage(error: BaseException) -> bool:
    """Whether the same transaction may succeed later, as opposed to being wrong in itself."""
    if isinstance(error, OSError | PoolTimeout | InterfaceError | OperationalError):
        return True
    if isinstance(error, DBAPIError):
        return error.connection_invalidated or _passing(error.orig)
    return isinstance(error, asyncpg.InterfaceError) or _passing(error)


def _passing(error: BaseException | None) -> bool:
    state = getattr(error, "sqlstate", None)
    return isinstance(state, str) and state.startswith(_PASSING_CLASSES)


async def outlast(step: Callable[[], Awaitable[T]], *, give_up_after_s: float) -> T:
    """Repeat a transaction until Postgres takes it, with growing delays.

    The transaction must be safe to repeat after an unclear end: fenced by a lease, or idempotent.

    Raises:
        The error itself, if it is no outage; the last one, once `give_up_after_s` have passed.
    """
    delay_s = FIRST_DELAY_S
    deadline = asyncio.get_running_loop().time() + give_up_after_s
    while True:
        try:
            return await step()
        except Exception as error:
            if not is_outage(error) or asyncio.get_running_loop().time() + delay_s > deadline:
                raise
            _log.warning("postgres.unavailable", error=str(error), retry_s=delay_s)
        await asyncio.sleep(delay_s)
        delay_s = min(2 * delay_s, LONGEST_DELAY_S)
