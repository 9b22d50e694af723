"""What every body and answer is made of: a strict base, and texts without control characters."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from aerotask.domain.text_cleaning import clean_line


class Body(BaseModel):
    """What a client sends: closed, so that a misspelt member is an error and not ignored."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", use_attribute_docstrings=True)


def _printable(value: str) -> str:
    if clean_line(value) != value:
        raise ValueError("must not hold control characters")
    return value


def _without_controls(value: str) -> str:
    """The text as people meant it: line ends and tabs stay, other control characters go."""
    return "\n".join(clean_line(line) for line in value.splitlines())


Plain = AfterValidator(clean_line)
PlainLines = AfterValidator(_without_controls)


Label = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_printable)]
