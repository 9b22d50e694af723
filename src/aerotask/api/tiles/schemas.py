"""Request and response schemas for tiles and view tokens."""

from __future__ import annotations

from uuid import UUID

from aerotask.api.http.schema import Body
from aerotask.representations.base import ApiModel, Moment


class NewViewToken(Body):
    """Scope of a view token to create."""

    task_id: UUID | None = None
    """The task that may be viewed; if missing, everything in the dataset."""


class ViewTokenResponse(ApiModel):
    """View token, for the `token` parameter."""

    token: str
    expires: Moment


class TileJsonResponse(ApiModel):
    """TileJSON 3.0.0 of a raster."""

    tilejson: str = "3.0.0"
    name: str
    scheme: str = "xyz"
    tiles: list[str]
    bounds: list[float]
    """West, south, east, north in degrees."""
    center: list[float]
    """Longitude, latitude, zoom."""
    minzoom: int
    maxzoom: int
