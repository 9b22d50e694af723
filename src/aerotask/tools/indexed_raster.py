"""Raster profiles from the index, for checks and plans that open no file."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet

from aerotask.derivatives.sources import paths_beside
from aerotask.domain.paths import shown
from aerotask.metadata.file_types import IMAGE_TYPES
from aerotask.raster.profile import RasterProfile
from aerotask.sdk import DatasetView, EntryView, InvalidInput, ToolParams


class RasterParams(ToolParams):
    """Parameters that name rasters, which may have world files and `.prj` beside them."""

    def entry_paths(self) -> tuple[str, ...]:
        """The named entries and their possible side files."""
        named = super().entry_paths()
        return tuple(dict.fromkeys([*named, *(side for path in named for side in paths_beside(path))]))


def with_side_files(rasters: Iterable[str], dataset: DatasetView) -> tuple[str, ...]:
    """The rasters' paths, and those of their existing side files."""
    named = tuple(rasters)
    sides = (side for path in named for side in paths_beside(path) if side in dataset.entries)
    return tuple(dict.fromkeys([*named, *sides]))


def known_profile(
    entry: EntryView, advice: str, *, undescribed: AbstractSet[str] = IMAGE_TYPES
) -> RasterProfile | None:
    """The raster's profile, or None if only the file itself can give it.

    `advice` ends the error message; entries of the types in `undescribed` may be rasters although the index has no
    profile of them.

    Raises:
        InvalidInput: the entry is indexed and not a raster (`not-a-raster`).
    """
    if not entry.indexed:
        return None
    profile = RasterProfile.from_properties(entry.properties)
    if profile is None and entry.type not in undescribed:
        fault = entry.properties.get("indexError", {}).get("message")
        raise InvalidInput(fault or f"{shown(entry.path)} is not a raster{advice}", code="not-a-raster")
    return profile
