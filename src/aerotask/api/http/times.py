"""Times that clients send: with an offset, in UTC from here on."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("must lie between the years 1 and 9999, in UTC as well") from error


UtcTime = Annotated[AwareDatetime, AfterValidator(_in_utc)]
"""A time with an offset. Converted at the edge: at the ends of the calendar, its UTC is no time at all."""
