"""Files of a backup: a folder, or one TAR file, with the blobs, the database's dump and a manifest.

The manifest is written last: a backup without it isn't complete, and the next run continues it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from aerotask.domain.errors import InvalidInput

MANIFEST = "manifest.json"
DATABASE = "database.dump"
LISTING = "blobs.jsonl"
"""Each blob's key and hash, one JSON object per line."""
SECRET_KEY = "secret.key"  # noqa: S105  a file's name
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Manifest:
    """Facts about a complete backup."""

    version: str
    """The version of Aerotask that made it."""
    created_at: str
    installation_id: str
    blobs: int
    size_bytes: int
    """The length of all blobs together."""
    missing: tuple[str, ...] = ()
    """Blobs that rows name but the storage doesn't have."""
    damaged: tuple[str, ...] = ()
    """Blobs whose content doesn't have the hash that their rows give; they aren't in the backup."""
    format: int = FORMAT

    def to_json(self) -> bytes:
        """The content of the manifest's file."""
        return orjson.dumps(asdict(self), option=orjson.OPT_INDENT_2)

    @classmethod
    def from_json(cls, content: bytes) -> Manifest:
        """The manifest of a file.

        Raises:
            InvalidInput: it isn't the manifest of a backup that this version can read.
        """
        try:
            fields: dict[str, Any] = orjson.loads(content)
            found = cls(
                **{**fields, "missing": tuple(fields["missing"]), "damaged": tuple(fields["damaged"])}
            )
        except (ValueError, TypeError, KeyError) as error:
            raise InvalidInput(
                "This isn't the manifest of an Aerotask backup.", code="not-a-backup"
            ) from error
        if found.format != FORMAT:
            raise InvalidInput(
                f"The backup has format {found.format}, this version of Aerotask reads {FORMAT}: it was made by "
                f"version {found.version}; restore it with that version.",
                code="not-a-backup",
            )
        return found


def listed_blobs(file: Path) -> Iterator[tuple[str, str]]:
    """Key and hash of each blob of a backup's listing."""
    with file.open("rb") as lines:
        for line in lines:
            blob = orjson.loads(line)
            yield blob["key"], blob["sha256"]
