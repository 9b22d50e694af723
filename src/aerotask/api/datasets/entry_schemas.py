"""Bodies and answers about the entries of a dataset."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from aerotask.api.http.schema import Body
from aerotask.metadata.file_types import EntryType
from aerotask.representations.base import ApiModel


class EntryResponse(ApiModel):
    """A file or folder of a dataset."""

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
    """False until a worker has looked into the content."""


class RemoveResponse(ApiModel):
    """What a removal took away."""

    removed: list[str]


class FromTo(Body):
    """Two paths of a dataset."""

    source: str = Field(max_length=4096)
    """What is there."""
    dest: str = Field(max_length=4096)
    """Where it is to be; nothing may be there yet."""


Degrees = Annotated[float, Field(ge=-180, le=180, allow_inf_nan=False)]


class SearchBody(Body):
    """What entries to find; each member that is given must hold."""

    query: str | None = Field(None, min_length=1, max_length=256)
    """A part of the path, in any case. With `*`, `?` or `**` it is a pattern for the whole path, or for the name if it holds no `/`."""
    path: str | None = Field(None, max_length=4096)
    """Only below this folder."""
    types: list[EntryType] | None = Field(None, min_length=1, max_length=len(EntryType))
    bbox: Annotated[list[Degrees], Field(min_length=4, max_length=4)] | None = None
    """West, south, east, north in degrees of EPSG:4326: only entries whose point lies in it."""
    skip: int = Field(0, ge=0, le=10_000_000)
    take: int = 50
    """Clamped to 1–1000."""


class SearchResponse(ApiModel):
    """Entries that were found, by path."""

    items: list[EntryResponse]
    skip: int
    take: int
    more: bool
    """Whether there are others behind these."""
