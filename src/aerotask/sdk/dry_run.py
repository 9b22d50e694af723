"""What a tool tells somebody who wants to look before running it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Review:
    """Beside the plan: what is doubtful but allowed, and what the run would do, as JSON values."""

    warnings: tuple[str, ...] = ()
    summary: Mapping[str, Any] = field(default_factory=dict)
