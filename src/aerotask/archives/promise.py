"""What an archive says will come out of it, known before anything does."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AnnouncedTotals:
    """So many wanted files with so many bytes; a format without a directory tells at most the bytes of all."""

    files: int | None
    size_bytes: int
