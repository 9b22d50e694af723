"""Limits of an installation on its tools, as its settings say."""

from __future__ import annotations

from dataclasses import dataclass

from aerotask.domain.settings import ArchiveLimits


@dataclass(frozen=True, slots=True)
class Limits(ArchiveLimits):
    """Limits on archives from outside, and on the bytes that a run may add; the defaults are the settings' own."""

    storage_left_bytes: int | None = None
    """Bytes that the dataset may still grow by when the run begins; None: there is no limit."""
