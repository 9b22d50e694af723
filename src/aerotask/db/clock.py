"""Postgres' clock, the only one that leases, due times and expiry are compared with."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, func, literal
from sqlalchemy.dialects.postgresql import INTERVAL

DAY_S = 24 * 3600


def db_now(*, plus_s: float = 0) -> ColumnElement[datetime]:
    """Time of evaluation, not of the transaction's start, plus some seconds."""
    return func.clock_timestamp() + seconds(plus_s)


def tx_now(*, plus_s: float = 0) -> ColumnElement[datetime]:
    """Start time of the transaction, plus some seconds; unlike `db_now`, an index can serve it."""
    return func.now() + seconds(plus_s)


def seconds(amount_s: float) -> ColumnElement[timedelta]:
    """Interval for arithmetic in Postgres."""
    return literal(timedelta(seconds=amount_s), INTERVAL)


def iso_now() -> ColumnElement[str]:
    """Current time as RFC 3339 text in UTC, the format of a task's history."""
    return func.to_char(func.timezone("UTC", func.clock_timestamp()), 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
