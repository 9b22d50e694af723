"""Base model of the API's JSON: camelCase names, times in UTC."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer
from pydantic.alias_generators import to_camel


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


Moment = Annotated[datetime, PlainSerializer(_rfc3339, return_type=str, when_used="json")]
"""A time, as RFC 3339 in UTC with `Z`."""


class ApiModel(BaseModel):
    """Base class of response models."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, use_attribute_docstrings=True)


class RowModel(ApiModel):
    """Base class of models that show a database row with JSON columns."""

    damaged: list[str] = Field(default_factory=list, exclude_if=lambda names: not names)
    """Members whose value in the database is damaged, and which are empty here; missing where there are none."""


def damaged_members(columns: Sequence[str]) -> list[str]:
    """The names of the members that show these columns."""
    return [to_camel(column) for column in columns]
