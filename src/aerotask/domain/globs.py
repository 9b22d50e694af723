"""Shell patterns over dataset paths: `*` and `?` stay within a name, `**` goes across folders."""

from __future__ import annotations

import re
from dataclasses import dataclass

from aerotask.domain.errors import InvalidInput

MAX_LENGTH = 256
MAX_STARS = 16
_SIGN = re.compile(r"\*\*/|\*\*|\*|\?|.", re.DOTALL)
_WILD = re.compile(r"[*?]")
_SPECIAL = frozenset(r"\.^$|()[]{}+")


@dataclass(frozen=True, slots=True)
class Glob:
    """A pattern as a regular expression that Postgres understands, and the literal text that it begins with."""

    regex: str
    prefix: str


def is_glob(text: str) -> bool:
    """Whether the text holds a wildcard."""
    return bool(_WILD.search(text))


def glob(pattern: str) -> Glob:
    """The pattern, matched against whole paths, or against names at any depth if it holds no `/`.

    Raises:
        InvalidInput: it is too long or holds too many stars to be matched in bounded time.
    """
    if len(pattern) > MAX_LENGTH or pattern.count("*") > MAX_STARS:
        raise InvalidInput(
            f"A pattern has at most {MAX_LENGTH} characters and {MAX_STARS} stars.", code="invalid-pattern"
        )
    anywhere = "" if "/" in pattern else "(.*/)?"
    body = "".join(_translated(sign) for sign in _SIGN.findall(pattern))
    prefix = "" if anywhere else _WILD.split(pattern, maxsplit=1)[0]
    return Glob(f"^{anywhere}{body}$", prefix)


def _translated(sign: str) -> str:
    if sign == "**/":
        return "(.*/)?"
    if sign == "**":
        return ".*"
    if sign == "*":
        return "[^/]*"
    if sign == "?":
        return "[^/]"
    return f"\\{sign}" if sign in _SPECIAL else sign
