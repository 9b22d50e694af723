"""What a run declares: the changes to apply when it has ended well, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class PublishedArtifact:
    """A file to offer for download."""

    path: Path
    name: str
    media_type: str
    sha256: str | None = None
    """Of the content, if the tool computed it while it wrote."""


class Existing(StrEnum):
    """What becomes of a file that is already at an output's path when a run's changes are applied."""

    REPLACE = "replace"
    KEEP = "keep"
    REFUSE = "refuse"
    """The task ends Failed with `output-exists`."""


@dataclass(frozen=True, slots=True)
class PutEntry:
    """A file to put into the dataset at the path `at`, and what becomes of a file that is there by then."""

    path: Path
    at: str
    existing: Existing = Existing.REPLACE


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
class DescribeEntry:
    """What the index shall say of the entry at the path `at`, as long as it has the content that the run read."""

    at: str
    sha256: str
    """Of the content, as it was read now."""
    type: str
    properties: Mapping[str, Any]
    point_geom: Mapping[str, Any] | None = None
    """GeoJSON in EPSG:4326, as is `polygon_geom`."""
    polygon_geom: Mapping[str, Any] | None = None


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

    artifacts: tuple[PublishedArtifact, ...] = ()
    """The first is the result; the others stand beside it."""
    edits: tuple[Edit, ...] = ()
    result: Mapping[str, Any] | None = field(default=None)
    descriptions: tuple[DescribeEntry, ...] = ()
    """Applied after the edits."""
    derivatives: tuple[PutDerivative, ...] = ()
