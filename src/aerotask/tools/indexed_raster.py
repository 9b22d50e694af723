"""What the index knows of a raster that a tool is asked to read, before any file is opened."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from aerotask.domain.paths import shown
from aerotask.metadata.file_types import IMAGE_TYPES
from aerotask.raster.profile import RasterProfile
from aerotask.sdk import EntryView, InvalidInput


def known_profile(
    entry: EntryView, advice: str, *, undescribed: AbstractSet[str] = IMAGE_TYPES
) -> RasterProfile | None:
    """The raster's profile, or None where only the file itself can tell.

    `advice` ends the sentence that begins with the entry's name; entries of the types `undescribed` may be rasters
    although the index has no profile of them.

    Raises:
        InvalidInput: the index knows the entry to be no raster (`not-a-raster`).
    """
    if not entry.indexed:
        return None
    profile = RasterProfile.from_properties(entry.properties)
    if profile is None and entry.type not in undescribed:
        fault = entry.properties.get("indexError", {}).get("message")
        raise InvalidInput(fault or f"{shown(entry.path)} is no raster{advice}", code="not-a-raster")
    return profile
