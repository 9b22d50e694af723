"""What is found out about a raster once, so that all of its tiles look alike: ranges, place and zooms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from aerotask.domain.errors import InvalidInput
from aerotask.raster.expression.indices import ValueRange
from aerotask.raster.profile import RasterProfile

Plain = Literal["rgb", "palette"]
"""Rasters that already are pictures: three bands of bytes in colour, or one with a colour table."""


@dataclass(frozen=True, slots=True)
class RenderInfo:
    """A raster as one style shows it."""

    profile: RasterProfile
    plain: Plain | None
    """How the raster shows itself, if nothing was chosen and it can."""
    ranges: tuple[ValueRange, ...]
    """Of the raster as it was uploaded, also where its tiles are drawn from a derivative."""
    bounds: tuple[float, float, float, float] | None
    """West, south, east, north in degrees (EPSG:4326); None if the raster doesn't say where it lies."""
    min_zoom: int
    """The lowest zoom at which a tile can be drawn without reading too much."""
    max_zoom: int
    """The zoom whose pixels are about as large as the raster's."""

    def to_json(self) -> dict[str, Any]:
        """The look as JSON values."""
        return {
            "profile": self.profile.to_properties(),
            "plain": self.plain,
            "ranges": [[each.low, each.high] for each in self.ranges],
            "bounds": None if self.bounds is None else list(self.bounds),
            "minZoom": self.min_zoom,
            "maxZoom": self.max_zoom,
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> RenderInfo:
        """The look that `to_json` wrote.

        Raises:
            KeyError, TypeError, ValueError: it didn't write this.
        """
        profile = RasterProfile.from_properties(fields["profile"])
        if profile is None:
            raise ValueError("a look without a profile")
        return cls(
            profile=profile,
            plain=fields["plain"],
            ranges=tuple(ValueRange(float(low), float(high)) for low, high in fields["ranges"]),
            bounds=None if fields["bounds"] is None else _four(fields["bounds"]),
            min_zoom=int(fields["minZoom"]),
            max_zoom=int(fields["maxZoom"]),
        )

    def place(self) -> tuple[float, float, float, float]:
        """The bounds of a raster that can be put on a map.

        Raises:
            InvalidInput: this one can't (`not-georeferenced`).
        """
        if self.bounds is None:
            raise InvalidInput(
                "The raster doesn't say where on Earth it lies, so it can't be put on a map; its thumbnail can be seen.",
                code="not-georeferenced",
            )
        return self.bounds


def _four(values: Any) -> tuple[float, float, float, float]:
    west, south, east, north = map(float, values)
    return west, south, east, north
