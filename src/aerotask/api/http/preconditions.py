"""Precondition headers If-Match and If-None-Match of requests that change an entry (RFC 9110, section 13)."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Header, Request

from aerotask.domain.preconditions import Condition

# Parameters for OpenAPI only; the values are read from the request, since headers may be repeated.
IfMatch = Annotated[
    str | None, Header(alias="If-Match", description="Only if the entry exists, with one of these ETags.")
]
IfNoneMatch = Annotated[
    str | None,
    Header(
        alias="If-None-Match",
        description="Only if the entry has none of these ETags; `*`: only if it doesn't exist.",
    ),
]


async def _condition(
    request: Request, _if_match: IfMatch = None, _if_none_match: IfNoneMatch = None
) -> Condition:
    one_of = _tags(request.headers.getlist("if-match"))
    none_of = _tags(request.headers.getlist("if-none-match"))
    return Condition(
        # Strong comparison (RFC 9110, section 13.1.1): weak tags keep their prefix and match nothing.
        one_of=one_of if "if-match" in request.headers else None,
        none_of=frozenset(tag.removeprefix("W/") for tag in none_of),
    )


ConditionDep = Annotated[Condition, Depends(_condition)]


def _tags(lines: list[str]) -> frozenset[str]:
    return frozenset(tag.strip() for line in lines for tag in line.split(",") if tag.strip())
