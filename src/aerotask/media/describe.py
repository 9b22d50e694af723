"""What the index says of a file: its type, its properties, and where on the ground it lies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aerotask.domain.errors import InvalidInput
from aerotask.media import raster
from aerotask.media.types import RASTER_SUFFIXES, EntryType, suffix_of, type_by_name


@dataclass(frozen=True, slots=True)
class Description:
    """What was found in a file; geometries are GeoJSON in EPSG:4326."""

    type: EntryType
    properties: Mapping[str, Any] = field(default_factory=dict)
    point: Mapping[str, Any] | None = None
    polygon: Mapping[str, Any] | None = None


def describe(path: Path) -> Description:
    """Look into the file at `path`, which carries its entry's own name.

    A file that isn't what its name says is `generic`, and `properties.indexError` says why.
    """
    if suffix_of(path.name) not in RASTER_SUFFIXES:
        return Description(type_by_name(path.name))
    try:
        found = raster.describe(path)
    except InvalidInput as error:
        return unreadable(error.code, error.message)
    return Description(
        EntryType.GEO_RASTER if found.is_georeferenced else EntryType.IMAGE,
        found.profile.to_properties(),
        found.centre,
        found.footprint,
    )


def unreadable(code: str, message: str) -> Description:
    """The description of a file whose content can't be read."""
    return Description(EntryType.GENERIC, {"indexError": {"code": code, "message": message}})
