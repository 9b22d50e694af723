"""What a run declares: the changes to apply when it has ended well, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file to offer for download."""

    path: Path
    name: str
    media_type: str


@dataclass(frozen=True, slots=True)
class PutEntry:
    """A file to put into the dataset at the path `at`."""

    path: Path
    at: str


@dataclass(frozen=True, slots=True)
class RemoveEntry:
    """An entry to remove, with everything below it."""

    at: str


@dataclass(frozen=True, slots=True)
class PutDerivative:
    """A file made from the content of entry `of`, to be served beside it as its derivative of that kind."""

    path: Path
    of: str
    kind: str
    builder: str
    """The version of what made it; another one makes it anew."""
    properties: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ChangeSet:
    """Everything that one run declared; `edits` are in the order in which they were declared."""

    artifacts: tuple[Artifact, ...] = ()
    """The first is the result; the others stand beside it."""
    edits: tuple[PutEntry | RemoveEntry, ...] = ()
    result: Mapping[str, Any] | None = field(default=None)
    derivatives: tuple[PutDerivative, ...] = ()
