"""Cleaning of untrusted text for logs, names, messages and JSON values."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping
from typing import Any

MAX_LINE_CHARS = 4000


def clean_line(text: str) -> str:
    """The text as one line without control characters or lone surrogates, cut to `MAX_LINE_CHARS`.

    Terminal escape sequences lose their ESC and so have no effect.
    """
    cleaned = "".join(c if c == "\t" or unicodedata.category(c) not in {"Cc", "Cs"} else " " for c in text)
    return cleaned if len(cleaned) <= MAX_LINE_CHARS else cleaned[: MAX_LINE_CHARS - 1] + "…"


def clean_json(value: Any) -> Any:
    """The value as JSON that Postgres can store: no NUL, no lone surrogates, null for NaN and infinity."""
    if isinstance(value, str):
        return "".join(c for c in value if c != "\0" and not "\ud800" <= c <= "\udfff")
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {clean_json(str(key)): clean_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [clean_json(item) for item in value]
    return value
