"""Change set of a run, as plain values; it is committed when the run has succeeded.

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
    """Artifact: a file to offer for download."""

    content: ContentT
    name: str
    media_type: str
    sha256: str | None = None
    """The content's hash, if the tool computed it while it wrote the file."""


_LAST_MTIME = 253_402_214_400
"""The last day of the year 9999, in Unix seconds."""


def plausible_mtime(mtime: int | None) -> int | None:
    """The time in Unix seconds, if it is after 1970 and before the year 10,000; else None."""
    return mtime if mtime is not None and 0 < mtime < _LAST_MTIME else None


class Existing(StrEnum):
    """Treatment of a file that exists at an output's path when the run's changes are committed."""

    REPLACE = "replace"
    KEEP = "keep"
    REFUSE = "refuse"
    """The task ends Failed with `output-exists`."""


@dataclass(frozen=True, slots=True)
class PutEntry(Generic[ContentT]):
    """Edit: put a file into the dataset at the path `at`."""

    content: ContentT
    at: str
    existing: Existing = Existing.REPLACE
    mtime: int | None = None
    """Time of the entry's last change, in Unix seconds; None: when the changes are committed."""


@dataclass(frozen=True, slots=True)
class PutFolder:
    """Edit: create the folder `at` and its parents, unless it exists."""

    at: str
    mtime: int | None = None
    """As for `PutEntry`, if the folder is new."""


@dataclass(frozen=True, slots=True)
class RemoveEntry:
    """Edit: remove the entry `at`, with everything below it."""

    at: str


Edit: TypeAlias = PutEntry[ContentT] | PutFolder | RemoveEntry


@dataclass(frozen=True, slots=True)
class DescribeEntry:
    """Index metadata for the entry at the path `at`; dropped if its content was replaced during the run."""

    at: str
    sha256: str
    """The hash of the content that was read."""
    type: str
    properties: Mapping[str, Any]
    point_geom: Mapping[str, Any] | None = None
    """GeoJSON in EPSG:4326, as is `polygon_geom`."""
    polygon_geom: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class PutDerivative(Generic[ContentT]):
    """Derivative: a file made from the content of entry `of`, served beside it by its `kind`."""

    content: ContentT
    of: str
    kind: str
    builder: str
    """The builder's version; a derivative of another version is out of date."""
    properties: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ChangeSet:
    """Everything that one run declared; `edits` keep the order of their declaration."""

    artifacts: tuple[PublishedArtifact[Path], ...] = ()
    """The first is the task's result; the others are its assets."""
    edits: tuple[Edit[Path], ...] = ()
    result: Mapping[str, Any] | None = field(default=None)
    descriptions: tuple[DescribeEntry, ...] = ()
    """Committed after the edits."""
    derivatives: tuple[PutDerivative[Path], ...] = ()
    """In a worker they have been published before the run ends."""
