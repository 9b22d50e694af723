"""Pydantic building blocks of request bodies: a strict base class, clean texts and times in UTC."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from aerotask.domain.text_cleaning import clean_line


class Body(BaseModel):
    """Base class of request bodies; unknown members are errors, so that a misspelt one isn't ignored."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", use_attribute_docstrings=True)


def _printable(value: str) -> str:
    if clean_line(value) != value:
        raise ValueError("must not hold control characters")
    return value


def _without_controls(value: str) -> str:
    """Removes control characters except line ends and tabs."""
    return "\n".join(clean_line(line) for line in value.splitlines())


def _to_utc(time: datetime) -> datetime:
    try:
        return time.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("must lie between the years 1 and 9999, in UTC as well") from error


CleanLine = AfterValidator(clean_line)
CleanLines = AfterValidator(_without_controls)
Printable = AfterValidator(_printable)
Label = Annotated[str, Field(min_length=1, max_length=64), Printable]
UtcTime = Annotated[AwareDatetime, AfterValidator(_to_utc)]
"""A time with an offset, converted to UTC at once: near the years 1 and 9999 the conversion overflows."""
