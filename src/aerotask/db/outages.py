"""What it looks like when Postgres is away for a moment, and how to outlast it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import asyncpg
import structlog
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from aerotask.db.engine import PostgresAway

FIRST_DELAY_S = 0.1
LONGEST_DELAY_S = 2.0
REST_S = 0.5
# SQLSTATE classes (PostgreSQL documentation, appendix A): connection exception, transaction rollback,
# insufficient resources, operator intervention (which a shutdown is); and a lock that others held for too long.
_PASSING = ("08", "40", "53", "57", "55P03")
# A statement that was broken off: it took too long, and would again.
_CANCELLED = "57014"

T = TypeVar("T")
_log = structlog.get_logger(__name__)


def is_outage(error: BaseException) -> bool:
    """Whether the same transaction may succeed later, as opposed to being wrong in itself."""
    if isinstance(error, DBAPIError):
        return not _was_cancelled(error.orig) and (
            error.connection_invalidated
            or isinstance(error, InterfaceError | OperationalError)
            or _passes(error.orig)
        )
    if isinstance(error, TimeoutError):
        # The driver's own, while nobody answers; a file system's has a number.
        return error.errno is None
    return isinstance(error, PostgresAway | PoolTimeout | asyncpg.InterfaceError) or _passes(error)


def _was_cancelled(error: BaseException | None) -> bool:
    return getattr(error, "sqlstate", None) == _CANCELLED


def _passes(error: BaseException | None) -> bool:
    state = getattr(error, "sqlstate", None)
    return isinstance(state, str) and state.startswith(_PASSING) and state != _CANCELLED


async def tolerate(
    event: str, step: Awaitable[T], *, also: type[Exception] | None = None, **said: str
) -> T | None:
    """Do the step, or leave it for later if Postgres is away: tell of it as `event`, rest a moment, answer None.

    What is `also` expected is no reason to end either.
    """
    try:
        return await step
    except Exception as error:
        if not (is_outage(error) or (also and isinstance(error, also))):
            raise
        _log.warning(event, error=str(error), **said)
    await asyncio.sleep(REST_S)
    return None


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
