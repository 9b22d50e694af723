"""Outages of Postgres: recognising them, and retrying until they end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import asyncpg
import structlog
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from aerotask.db.engine import QUERY_CANCELED, PostgresAway

FIRST_DELAY_S = 0.1
LONGEST_DELAY_S = 2.0
PAUSE_S = 0.5
# SQLSTATE classes (PostgreSQL documentation, appendix A): connection exception, transaction rollback,
# insufficient resources, operator intervention (including shutdown); and the lock timeout.
_TRANSIENT = ("08", "40", "53", "57", "55P03")

T = TypeVar("T")
_log = structlog.get_logger(__name__)


def is_outage(error: BaseException) -> bool:
    """True if the same transaction may succeed later."""
    if isinstance(error, DBAPIError):
        return not _was_cancelled(error.orig) and (
            error.connection_invalidated
            or isinstance(error, InterfaceError | OperationalError)
            or _is_transient(error.orig)
        )
    if isinstance(error, TimeoutError):
        # The driver's own timeout; one of the file system has an errno.
        return error.errno is None
    return isinstance(error, PostgresAway | PoolTimeout | asyncpg.InterfaceError) or _is_transient(error)


def _was_cancelled(error: BaseException | None) -> bool:
    return getattr(error, "sqlstate", None) == QUERY_CANCELED


def _is_transient(error: BaseException | None) -> bool:
    state = getattr(error, "sqlstate", None)
    return (
        isinstance(state, str) and state.startswith(_TRANSIENT) and state != QUERY_CANCELED
    )  # the statement would time out again


async def tolerate(
    event: str, step: Awaitable[T], *, also: type[Exception] | None = None, **fields: str
) -> T | None:
    """Awaits the step; during an outage logs `event`, pauses and returns None, so that a loop can go on.

    Exceptions of the type `also` are treated the same way.
    """
    try:
        return await step
    except Exception as error:
        if not (is_outage(error) or (also and isinstance(error, also))):
            raise
        _log.warning(event, error=str(error), **fields)
    await asyncio.sleep(PAUSE_S)
    return None


async def outlast(step: Callable[[], Awaitable[T]], *, give_up_after_s: float) -> T:
    """Retries a transaction during an outage, with growing delays.

    The transaction must be safe to repeat if its commit was lost or not reported: fenced by a lease, or idempotent.

    Raises:
        The error itself if it is not an outage, or the last one after `give_up_after_s`.
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
