"""What an installation allows tools, as its settings say; the defaults are the settings' own."""

from __future__ import annotations

from dataclasses import dataclass

GIB = 1024**3


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on archives from outside, and on what a run may add."""

    archive_bytes: int = 5 * GIB
    """The largest archive that is extracted."""
    extracted_bytes: int = 100 * GIB
    """How many bytes may come out of one archive."""
    extracted_entries: int = 100_000
    """How many files and folders may come out of one archive."""
    extraction_ratio: int = 100
    """How many bytes may come out for each byte of the archive."""
    archive_depth: int = 32
    """How many folders deep an archive may go."""
    storage_left_bytes: int | None = None
    """How many bytes more the dataset may hold as the run begins, by its payers' limits; None: there is no limit."""
