"""Coercion of EXIF and XMP values, which may have any type, to numbers and text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from aerotask.metadata.photos.xmp import XmpValue

MAX_TEXT_CHARS = 200


def number(value: Any) -> float | None:
    """The value as a finite number; for a tuple of one, its item."""
    if isinstance(value, tuple) and len(value) == 1:
        return number(value[0])
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def text(value: Any) -> str | None:
    """The value as a short text; for a tuple, its first item."""
    if isinstance(value, tuple):
        return text(value[0]) if value else None
    if not isinstance(value, str):
        return None
    return " ".join(value.split())[:MAX_TEXT_CHARS] or None


def first_number(properties: Mapping[str, XmpValue], *names: str) -> float | None:
    """First of the named properties that is a number."""
    found = (number(properties.get(name)) for name in names)
    return next((value for value in found if value is not None), None)


def first_text(properties: Mapping[str, XmpValue], *names: str) -> str | None:
    """First of the named properties that is a text."""
    return next((value for name in names if (value := text(properties.get(name)))), None)
