"""How long looking into files may take, on upload and on rescan alike."""

from __future__ import annotations

PATIENCE_S = 60.0
"""For one file, beside the time to read it."""
SLOWEST_BYTES_PER_S = 20_000_000


def patience_s(file_bytes: int) -> float:
    """The time after which a reader is given up that looks into so many bytes."""
    return PATIENCE_S + file_bytes / SLOWEST_BYTES_PER_S
