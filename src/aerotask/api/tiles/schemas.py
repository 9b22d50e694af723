"""Bodies and answers for maps and other viewers."""

from __future__ import annotations

from uuid import UUID

from aerotask.api.http.schema import Body
from aerotask.representations.base import ApiModel, Moment


class NewTileToken(Body):
    """What a viewing token is to be for."""

    task_id: UUID | None = None
    """The task whose result may be looked at; left out, everything in the dataset."""


class TileTokenResponse(ApiModel):
    """A token for the `token` parameter of the routes for viewing."""

    token: str
    expires: Moment


class TileJsonResponse(ApiModel):
    """How a raster's tiles are found (TileJSON 3.0.0)."""

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
