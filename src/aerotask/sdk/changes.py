"""Changes that a run declares, as plain values; they are applied when the run has succeeded.

`PublishedArtifact`, `PutEntry` and `PutDerivative` are generic over where their content is: a `Path` in the run's work
folder, or a blob once the worker has checked and stored the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar

ContentT = TypeVar("ContentT")


@dataclass(frozen=True, slots=True)
class PublishedArtifact(Generic[ContentT]):
    """A file to offer for download."""

    content: ContentT
    name: str
    media_type: str
    sha256: str | None = None
    """Of the content, if the tool computed it while writing."""


class Existing(StrEnum):
    """Policy for a file that already exists at an output's path when a run's changes are applied."""

    REPLACE = "replace"
    KEEP = "keep"
    REFUSE = "refuse"
    """The task ends Failed with `output-exists`."""


@dataclass(frozen=True, slots=True)
class PutEntry(Generic[ContentT]):
    """A file to put into the dataset at the path `at`, and the policy for a file that exists there."""

    content: ContentT
    at: str
    existing: Existing = Existing.REPLACE


@dataclass(frozen=True, slots=True)
class PutFolder:
    """A folder to create at the path `at`, with its parents; an existing one stays."""

    at: str


@dataclass(frozen=True, slots=True)
class RemoveEntry:
    """An entry to remove, with everything below it."""

    at: str


Edit: TypeAlias = PutEntry[ContentT] | PutFolder | RemoveEntry


@dataclass(frozen=True, slots=True)
class DescribeEntry:
    """New metadata in the index for the entry at the path `at`, if it still has the content that the run read."""

    at: str
    sha256: str
    """Of the content that was read."""
    type: str
    properties: Mapping[str, Any]
    point_geom: Mapping[str, Any] | None = None
    """GeoJSON in EPSG:4326, as is `polygon_geom`."""
    polygon_geom: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class PutDerivative(Generic[ContentT]):
    """A file made from the content of entry `of`, to be served as its derivative of that kind."""

    content: ContentT
    of: str
    kind: str
    builder: str
    """Version of the builder; a derivative by another version is built again."""
    properties: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ChangeSet:
    """Everything that one run declared; `edits` keep the order of their declaration."""

    artifacts: tuple[PublishedArtifact[Path], ...] = ()
    """The first is the task's result."""
    edits: tuple[Edit[Path], ...] = ()
    result: Mapping[str, Any] | None = field(default=None)
    descriptions: tuple[DescribeEntry, ...] = ()
    """Applied after the edits."""
    derivatives: tuple[PutDerivative[Path], ...] = ()
