"""The headers by which a client changes an entry only if it is as they take it to be."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Header, Request

from aerotask.domain.preconditions import Condition

# Read from the request, since a header may come in several lines; these describe them.
IfMatch = Annotated[
    str | None, Header(alias="If-Match", description="Only if there is a content, with one of these ETags.")
]
IfNoneMatch = Annotated[
    str | None,
    Header(
        alias="If-None-Match", description="Only if there is none with these ETags; `*`: if there is none."
    ),
]


async def _condition(
    request: Request, _if_match: IfMatch = None, _if_none_match: IfNoneMatch = None
) -> Condition:
    one_of = _tags(request.headers.getlist("if-match"))
    none_of = _tags(request.headers.getlist("if-none-match"))
    return Condition(
        # Compared strongly: a weak tag, left as it is, equals none of ours (RFC 9110, section 13.1.1).
        one_of=one_of if "if-match" in request.headers else None,
        none_of=frozenset(tag.removeprefix("W/") for tag in none_of),
    )


ConditionDep = Annotated[Condition, Depends(_condition)]


def _tags(lines: list[str]) -> frozenset[str]:
    return frozenset(tag.strip() for line in lines for tag in line.split(",") if tag.strip())
