"""Metadata of a file as a plain value; imports no file readers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aerotask.domain.text_cleaning import clean_json
from aerotask.metadata.file_types import EntryType, type_by_name


@dataclass(frozen=True, slots=True)
class FileMetadata:
    """Type, properties and geometries of a file; geometries are GeoJSON in EPSG:4326."""

    type: EntryType
    properties: Mapping[str, Any] = field(default_factory=dict)
    point: Mapping[str, Any] | None = None
    polygon: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """The metadata as JSON, with cleaned texts."""
        properties = clean_json(self.properties)
        return {"type": self.type, "properties": properties, "point": self.point, "polygon": self.polygon}

    @property
    def error(self) -> str | None:
        """Reason why the metadata could not be extracted, if they couldn't."""
        index_error = self.properties.get("indexError")
        return None if index_error is None else str(index_error["message"])


def unreadable(code: str, message: str, entry_type: EntryType = EntryType.GENERIC) -> FileMetadata:
    """Metadata of a file whose content can't be read."""
    return FileMetadata(entry_type, {"indexError": {"code": code, "message": message}})


def too_large_to_read() -> FileMetadata:
    """Metadata of a file whose extraction needs too much memory."""
    return unreadable(
        "unreadable-file",
        "The metadata of the file could not be extracted: it needs more memory than the limit for reading one file.",
    )


GIVEN_UP = "index-given-up"
"""Code of a file whose reader was lost or took too long in every attempt, which says nothing about its content."""


def given_up(path: str, cause: str, *, attempt: int) -> FileMetadata:
    """Metadata of a file whose reader was lost or took too long in every attempt; it keeps the type of its name."""
    return unreadable(
        GIVEN_UP,
        f"The metadata of the file could not be extracted (attempt {attempt}: {cause}). It is tried again within the "
        "next hours, or at once by a rescan of the index.",
        type_by_name(path),
    )


def is_given_up(properties: object) -> bool:
    """Whether these are the properties of a file that was given up."""
    error = properties.get("indexError") if isinstance(properties, Mapping) else None
    return isinstance(error, Mapping) and error.get("code") == GIVEN_UP
