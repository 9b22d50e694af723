"""Request and response schemas for the entries of a dataset."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from aerotask.api.http.schema import Body
from aerotask.metadata.file_types import EntryType
from aerotask.representations.base import ApiModel, RowModel


class EntryResponse(RowModel):
    """File or folder of a dataset."""

    path: str
    hash: str
    """SHA-256 of the content; empty for a folder."""
    type: str
    properties: dict[str, Any]
    mtime: int
    """Unix seconds."""
    size: int
    depth: int
    point_geom: dict[str, Any] | None
    """GeoJSON in EPSG:4326."""
    polygon_geom: dict[str, Any] | None
    """GeoJSON in EPSG:4326."""
    indexed: bool
    """False until a worker has extracted the metadata."""


class RemoveResponse(ApiModel):
    """Paths of the deleted entries."""

    removed: list[str]


class FromTo(Body):
    """Source and destination path within a dataset."""

    source: str = Field(max_length=4096)
    """Path of an existing entry."""
    dest: str = Field(max_length=4096)
    """New path; there must be no entry yet."""


Degrees = Annotated[float, Field(ge=-180, le=180, allow_inf_nan=False)]


class SearchBody(Body):
    """Search criteria; entries must match all that are given."""

    query: str | None = Field(None, min_length=1, max_length=256)
    """Part of the path, case-insensitive. With `*`, `?` or `**` a pattern for the whole path, or for the name if it contains no `/`."""
    path: str | None = Field(None, max_length=4096)
    """Search only below this folder."""
    types: list[EntryType] | None = Field(None, min_length=1, max_length=len(EntryType))
    bbox: Annotated[list[Degrees], Field(min_length=4, max_length=4)] | None = None
    """West, south, east, north in degrees of EPSG:4326; finds entries whose point lies within."""
    skip: int = Field(0, ge=0, le=10_000_000)
    take: int = 50
    """Clamped to 1–1000."""


class SearchResponse(ApiModel):
    """Page of found entries, by path."""

    items: list[EntryResponse]
    skip: int
    take: int
    more: bool
    """Whether more entries follow."""
