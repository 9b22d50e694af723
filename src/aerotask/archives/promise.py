"""What an archive's directory says will come out of it, known before anything does."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Promise:
    """So many files with so many bytes."""

    files: int
    size_bytes: int
