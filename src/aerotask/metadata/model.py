"""Metadata of a file as a plain value; imports no file readers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aerotask.domain.text_cleaning import clean_json
from aerotask.metadata.file_types import EntryType


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


def extraction_failed(detail: str) -> FileMetadata:
    """Metadata of a file whose extraction was aborted."""
    return unreadable("unreadable-file", f"The metadata of the file could not be extracted: {detail}.")
