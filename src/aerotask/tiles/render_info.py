"""Render info of a raster in a style: value ranges, bounds and zooms that all of its tiles share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from aerotask.domain.errors import InvalidInput
from aerotask.raster.expression.indices import ValueRange
from aerotask.raster.profile import RasterProfile

Plain = Literal["rgb", "palette"]
"""Rasters that already are images: RGB bands of bytes, or a band with a colour table."""


@dataclass(frozen=True, slots=True)
class RenderInfo:
    """Value ranges, bounds and zooms of a raster in one style."""

    profile: RasterProfile
    plain: Plain | None
    """The raster's own colours, if the style chose nothing and the raster is an image."""
    ranges: tuple[ValueRange, ...]
    """Value ranges of the original raster, even if tiles are read from its COG derivative."""
    bounds: tuple[float, float, float, float] | None
    """West, south, east, north in degrees (EPSG:4326); None without a georeference."""
    max_zoom: int
    """The zoom whose resolution is closest to the raster's."""
    unplaced_because: str | None = None
    """Why there are no bounds, with what to do about it."""

    def to_json(self) -> dict[str, Any]:
        """The render info as JSON values."""
        return {
            "profile": self.profile.to_properties(),
            "plain": self.plain,
            "ranges": [[each.low, each.high] for each in self.ranges],
            "bounds": None if self.bounds is None else list(self.bounds),
            "maxZoom": self.max_zoom,
            "unplacedBecause": self.unplaced_because,
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> RenderInfo:
        """The render info that `to_json` wrote.

        Raises:
            KeyError, TypeError, ValueError: the JSON is not a render info.
        """
        profile = RasterProfile.from_properties(fields["profile"])
        if profile is None:
            raise ValueError("the render info has no profile")
        return cls(
            profile=profile,
            plain=fields["plain"],
            ranges=tuple(ValueRange(float(low), float(high)) for low, high in fields["ranges"]),
            bounds=None if fields["bounds"] is None else _four(fields["bounds"]),
            max_zoom=int(fields["maxZoom"]),
            unplaced_because=fields["unplacedBecause"],
        )

    def require_bounds(self) -> tuple[float, float, float, float]:
        """The bounds of a georeferenced raster.

        Raises:
            InvalidInput: the raster has no georeference (`not-georeferenced`).
        """
        if self.bounds is None:
            raise InvalidInput(
                self.unplaced_because or "The raster has no georeference, so it has no map tiles.",
                code="not-georeferenced",
            )
        return self.bounds


def _four(values: Any) -> tuple[float, float, float, float]:
    west, south, east, north = map(float, values)
    return west, south, east, north
