"""What a run declares: the changes to apply when it has ended well, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file to offer for download."""

    path: Path
    name: str
    media_type: str
    sha256: str | None = None
    """Of the content, if the tool computed it while it wrote."""


@dataclass(frozen=True, slots=True)
class PutEntry:
    """A file to put into the dataset at the path `at`; with `keep_existing`, only if no file is there."""

    path: Path
    at: str
    keep_existing: bool = False


@dataclass(frozen=True, slots=True)
class PutFolder:
    """A folder to make at the path `at`, with all above it; one that is there stays."""

    at: str


@dataclass(frozen=True, slots=True)
class RemoveEntry:
    """An entry to remove, with everything below it."""

    at: str


Edit: TypeAlias = PutEntry | PutFolder | RemoveEntry


@dataclass(frozen=True, slots=True)
class ChangeSet:
    """Everything that one run declared; `edits` are in the order in which they were declared."""

    artifacts: tuple[Artifact, ...] = ()
    """The first is the result; the others stand beside it."""
    edits: tuple[Edit, ...] = ()
    result: Mapping[str, Any] | None = field(default=None)
