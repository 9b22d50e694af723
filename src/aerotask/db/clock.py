"""The database's clock, the only one that leases, due times and expiry are compared with."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, func, literal
from sqlalchemy.dialects.postgresql import INTERVAL

DAY_S = 24 * 3600


def db_now(*, plus_s: float = 0) -> ColumnElement[datetime]:
    """The time at which Postgres evaluates this, not when its transaction began, plus some seconds."""
    return func.clock_timestamp() + seconds(plus_s)


def tx_now(*, plus_s: float = 0) -> ColumnElement[datetime]:
    """The time at which the transaction began, plus some seconds; unlike `db_now`, an index can serve it."""
    return func.now() + seconds(plus_s)


def seconds(amount_s: float) -> ColumnElement[timedelta]:
    """An interval for arithmetic in Postgres."""
    return literal(timedelta(seconds=amount_s), INTERVAL)


def iso_now() -> ColumnElement[str]:
    """The database's time as RFC 3339 text in UTC, as it stands in a task's history."""
    return func.to_char(func.timezone("UTC", func.clock_timestamp()), 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
