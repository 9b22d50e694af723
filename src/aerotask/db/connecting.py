"""Failures to reach a database, as one sentence for whoever starts a process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from aerotask.db.outages import is_outage
from aerotask.domain.errors import Unavailable

# SQLSTATE classes of a server that rejects us: a wrong password or user, and a database that doesn't exist.
_REJECTED = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
    asyncpg.ReadOnlySQLTransactionError,
)


@contextmanager
def explained_failures(url: str) -> Iterator[None]:
    """Turn errors of an unreachable or rejecting Postgres into one that says what to check, without the password.

    Raises:
        Unavailable: the block failed in that way.
    """
    try:
        yield
    except Exception as error:
        cause = error.orig if isinstance(error, DBAPIError) and error.orig else error
        driver_error = cause.__cause__ or cause
        if not (is_outage(error) or isinstance(driver_error, _REJECTED)):
            raise
        reason = str(driver_error).strip().split("\n", 1)[0] or type(driver_error).__name__
        raise Unavailable(
            f"Postgres at {_place(url)} can't be used: {reason.rstrip('.')}. Check AEROTASK_DATABASE_URL, and that the server "
            "is running."
        ) from error


def _place(url: str) -> str:
    parts = make_url(url)
    host = parts.host or parts.query.get("host") or "the default address"
    place = host if isinstance(host, str) else ", ".join(host)
    return f"{place}:{parts.port}" if parts.port else place
