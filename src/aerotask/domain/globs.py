"""Glob patterns for dataset paths: `*` and `?` match within a name, `**` across folders."""

from __future__ import annotations

import re
from dataclasses import dataclass

from aerotask.domain.errors import InvalidInput

MAX_LENGTH = 256
MAX_STARS = 16
_SYMBOL = re.compile(r"\*\*/|\*\*|\*|\?|.", re.DOTALL)
_WILD = re.compile(r"[*?]")
_SPECIAL = frozenset(r"\.^$|()[]{}+")


@dataclass(frozen=True, slots=True)
class Glob:
    """A pattern as a regular expression for Postgres, and its literal prefix."""

    regex: str
    prefix: str


def is_glob(text: str) -> bool:
    """True if the text contains a wildcard."""
    return bool(_WILD.search(text))


def glob(pattern: str) -> Glob:
    """Compiles a pattern, which matches whole paths, or names at any depth if it contains no `/`.

    Raises:
        InvalidInput: the pattern is too long or has too many stars to be matched in bounded time.
    """
    if len(pattern) > MAX_LENGTH or pattern.count("*") > MAX_STARS:
        raise InvalidInput(
            f"A pattern may have at most {MAX_LENGTH} characters and {MAX_STARS} stars.",
            code="invalid-pattern",
        )
    anywhere = "" if "/" in pattern else "(.*/)?"
    body = "".join(_translated(symbol) for symbol in _SYMBOL.findall(pattern))
    prefix = "" if anywhere else _WILD.split(pattern, maxsplit=1)[0]
    return Glob(f"^{anywhere}{body}$", prefix)


def _translated(symbol: str) -> str:
    if symbol == "**/":
        return "(.*/)?"
    if symbol == "**":
        return ".*"
    if symbol == "*":
        return "[^/]*"
    if symbol == "?":
        return "[^/]"
    return f"\\{symbol}" if symbol in _SPECIAL else symbol
