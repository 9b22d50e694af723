"""What the index keeps of a file, as a plain value: nothing here loads what reads files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aerotask.metadata.file_types import EntryType


@dataclass(frozen=True, slots=True)
class FileMetadata:
    """What was found in a file; geometries are GeoJSON in EPSG:4326."""

    type: EntryType
    properties: Mapping[str, Any] = field(default_factory=dict)
    point: Mapping[str, Any] | None = None
    polygon: Mapping[str, Any] | None = None

    @property
    def fault(self) -> str | None:
        """Why the file could not be looked into."""
        error = self.properties.get("indexError")
        return None if error is None else str(error["message"])


def unreadable(code: str, message: str, kept: EntryType = EntryType.GENERIC) -> FileMetadata:
    """The description of a file whose content can't be read."""
    return FileMetadata(kept, {"indexError": {"code": code, "message": message}})


def given_up(detail: str) -> FileMetadata:
    """The description of a file whose reading had to be ended."""
    return unreadable("unreadable-file", f"The file could not be looked into: {detail}.")
