"""Result of a tool's dry run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class DryRun:
    """Warnings and a summary (JSON values) of a run that was checked and planned but not submitted."""

    warnings: tuple[str, ...] = ()
    summary: Mapping[str, Any] = field(default_factory=dict)
