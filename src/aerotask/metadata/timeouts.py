"""Timeouts for metadata extraction, on upload and on rescan alike."""

from __future__ import annotations

MIN_TIMEOUT_S = 60.0
"""For one file, besides the time to read it."""
MIN_BYTES_PER_S = 20_000_000


def extraction_timeout_s(file_bytes: int) -> float:
    """The time after which extraction from files of this size is ended."""
    return MIN_TIMEOUT_S + file_bytes / MIN_BYTES_PER_S
