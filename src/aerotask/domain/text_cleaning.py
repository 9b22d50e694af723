"""Cleaning of untrusted text for logs, names, messages and JSON values."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

MAX_LINE_CHARS = 4000
CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")
"""Characters that names must not contain: controls, lone surrogates, and the bidirectional controls.

The latter show a text in another order than it is stored in, so that `gpj.exe` looks like `exe.jpg` (Unicode Technical
Report 36, section 2.7; the embeddings, overrides and isolates of Unicode Standard Annex 9). Arabic and Hebrew need none.
"""
_CONTROLS_BUT_TAB = re.compile(rf"(?!\t){CONTROLS.pattern}")


def clean_line(text: str) -> str:
    """The text as one line with spaces instead of `CONTROLS`, other than tabs, cut to `MAX_LINE_CHARS`.

    Terminal escape sequences lose their ESC and so have no effect.
    """
    cleaned = _CONTROLS_BUT_TAB.sub(" ", text)
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
